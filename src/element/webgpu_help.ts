import { html, type TemplateResult } from 'lit'

/** What to do about missing WebGPU, by browser. */
interface Help {
  name: string
  advice: TemplateResult
}

const CHROMIUM: Help = {
  name: 'Chrome and Edge',
  advice: html`version 113 or newer, with “Use graphics acceleration when available” on in <code>chrome://settings/system</code>; on
    Linux also <code>chrome://flags/#enable-unsafe-webgpu</code>`,
}
const SAFARI: Help = { name: 'Safari', advice: html`version 26 or newer, on macOS, iOS and iPadOS 26` }
const FIREFOX: Help = {
  name: 'Firefox',
  advice: html`version 141 or newer on Windows, 145 on macOS with Apple silicon; elsewhere
    <code>dom.webgpu.enabled</code> in <code>about:config</code>`,
}

/** The advice for the visitor's browser first, then for the other browsers. */
export function howToGetWebGpu(userAgent = navigator.userAgent, secure = isSecureContext): TemplateResult {
  const own = /Firefox\//.test(userAgent) ? FIREFOX : /Chrom(e|ium)\//.test(userAgent) ? CHROMIUM : SAFARI
  const others = [CHROMIUM, SAFARI, FIREFOX].filter((help) => help !== own)
  if (!secure) {
    return html`<p><b>This address:</b> browsers offer WebGPU over https and on localhost only; open this page there.</p>`
  }
  return html`<p><b>This browser, ${own.name}:</b> ${own.advice}.</p>
    <ul>
      ${others.map(({ name, advice }) => html`<li>${name}: ${advice}</li>`)}
    </ul>`
}
