import { serve } from '../../src/rpc/index.ts'
import { compressSample } from './portable.ts'

const api = { compressSample }
export type CompressApi = typeof api

serve(api)
