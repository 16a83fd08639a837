/**
 * A second WebGPU engine for tests: Debian's Firefox (wgpu and naga) on llvmpipe, which has `shader-f16`. Playwright
 * cannot drive a stock Firefox, and none of its drivers is needed: a page that is opened in it starts by itself and sends
 * what it found to the server that it came from.
 *
 * @module
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const ICDS = ['/usr/share/vulkan/icd.d/lvp_icd.x86_64.json', '/usr/share/vulkan/icd.d/lvp_icd.json']

const PREFERENCES = {
  'dom.webgpu.enabled': true,
  'gfx.webgpu.force-enabled': true,
  'gfx.webgpu.ignore-blocklist': true,
  'dom.webgpu.workers.enabled': true,
  // The page computes what the kernels must give: that is one long script.
  'dom.max_script_run_time': 0,
  'browser.aboutwelcome.enabled': false,
  'browser.shell.checkDefaultBrowser': false,
  'datareporting.policy.dataSubmissionEnabled': false,
  'toolkit.startup.max_resumed_crashes': -1,
}

function findFirefox() {
  const paths = [process.env.FIREFOX_PATH, '/usr/bin/firefox-esr', '/usr/bin/firefox']
  return paths.find((path) => path !== undefined && existsSync(path))
}

/** Why no page can be opened, or undefined. @returns {string | undefined} */
export function missingForFirefox() {
  if (findFirefox() === undefined) return 'there is no Firefox'
  return ICDS.some((path) => existsSync(path)) ? undefined : 'mesa-vulkan-drivers is not installed'
}

/**
 * Opens a page in a Firefox of its own.
 * @param {string} url
 * @returns {{ ended: Promise<number | null>, close: () => Promise<void> }} its exit, should it come before `close`
 */
export function openFirefox(url) {
  const executable = findFirefox()
  if (executable === undefined) throw new Error('there is no Firefox')
  const profile = mkdtempSync(join(tmpdir(), 'tritswap-firefox-'))
  const preferences = Object.entries(PREFERENCES).map(
    ([name, value]) => `user_pref(${JSON.stringify(name)}, ${value});\n`,
  )
  writeFileSync(join(profile, 'user.js'), preferences.join(''))
  const firefox = spawn(executable, ['--headless', '--no-remote', '--profile', profile, url], {
    stdio: 'ignore',
  })
  const ended = once(firefox, 'exit').then(([code]) => code)
  return {
    ended,
    async close() {
      if (firefox.exitCode === null) {
        firefox.kill()
        await ended
      }
      rmSync(profile, { recursive: true, force: true, maxRetries: 5 })
    },
  }
}
