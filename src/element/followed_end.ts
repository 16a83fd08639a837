import type { ReactiveController, ReactiveControllerHost } from 'lit'

/**
 * Keeps the end of a scrolled text in view while the text grows or its box changes (a phone is turned), unless the reader
 * has scrolled back.
 */
export class FollowedEnd implements ReactiveController {
  readonly #host: ReactiveControllerHost & { readonly renderRoot: ParentNode }
  readonly #selector: string
  readonly #slack: number
  #scrolled?: Element
  /** Its inner size when the end was last looked for: "width × height". */
  #size = ''
  #follows = true
  readonly #resized: ResizeObserver

  /**
   * @param selector - of the element that scrolls, in the host's root
   * @param slack - px from the end within which the reader still counts as being at the end
   */
  constructor(
    host: ReactiveControllerHost & { readonly renderRoot: ParentNode },
    selector: string,
    slack: number,
  ) {
    this.#host = host
    this.#selector = selector
    this.#slack = slack
    this.#resized = new ResizeObserver(() => this.keep())
    host.addController(this)
  }

  /** The end is to be in view from now on. */
  follow(): void {
    this.#follows = true
  }

  /** Brings the end into view where the reader had it in view. */
  keep(): void {
    const scrolled = this.#scrolled
    if (scrolled === undefined) return
    this.#size = sizeOf(scrolled)
    if (this.#follows) scrolled.scrollTop = scrolled.scrollHeight
  }

  /** Notes whether the reader has the end in view. */
  look(): void {
    const scrolled = this.#scrolled
    if (scrolled === undefined) return
    this.#size = sizeOf(scrolled)
    this.#follows = scrolled.scrollHeight - scrolled.scrollTop - scrolled.clientHeight < this.#slack
  }

  hostUpdated(): void {
    const scrolled = this.#host.renderRoot.querySelector(this.#selector) ?? undefined
    if (scrolled === this.#scrolled) return
    this.hostDisconnected()
    this.#scrolled = scrolled
    this.hostConnected()
  }

  hostConnected(): void {
    if (this.#scrolled === undefined) return
    this.#resized.observe(this.#scrolled)
    this.#scrolled.addEventListener('scroll', this.#onScroll, { passive: true })
  }

  hostDisconnected(): void {
    this.#resized.disconnect()
    this.#scrolled?.removeEventListener('scroll', this.#onScroll)
  }

  readonly #onScroll = (): void => {
    // The browser itself scrolls a box that it lays out anew; that says nothing about the reader.
    if (this.#scrolled !== undefined && sizeOf(this.#scrolled) === this.#size) this.look()
  }
}

function sizeOf({ clientWidth, clientHeight }: Element): string {
  return `${clientWidth} × ${clientHeight}`
}
