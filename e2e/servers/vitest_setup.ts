import type { TestProject } from 'vitest/node'
import { startFaultServer } from './fault_server.ts'

declare module 'vitest' {
  export interface ProvidedContext {
    /** Address of a fault server, of another origin than the page. */
    faultServer: string
  }
}

/** Gives browser tests a fault server. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const server = await startFaultServer()
  project.provide('faultServer', server.url)
  return () => server.close()
}
