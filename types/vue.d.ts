import type { DefineComponent } from "vue";
import type { ExpertSwitcher } from "tritswap/element";

type ExpertSwitcherProps = {
  /** Folder of the base: an address, absolute or relative to the page, or `hf:owner/name@revision`. */
  model?: ExpertSwitcher["model"];
  /** Address of the registry, `experts.json`. */
  experts?: ExpertSwitcher["experts"];
  /** Folder that `tritswap assets` copied the workers and onnxruntime-web's files to. Only needed where a bundler separated
the library from them. */
  assets?: ExpertSwitcher["assets"];
  /** Start workers from `blob:` addresses, for pages whose content security policy allows no others. */
  "blob-workers"?: ExpertSwitcher["blobWorkers"];
  /** `manuscript` goes on from a text, `chat` answers; a chat needs a base whose tokenizer has a chat template. */
  mode?: ExpertSwitcher["mode"];
  /** The text to go on from; in a chat, the next question. */
  prompt?: ExpertSwitcher["prompt"];
  /** System message of the chat. Unset, it is the one that comes with the expert in hand, if there is one. */
  system?: ExpertSwitcher["system"];
  /** Texts that end what is written where one of them would come. In the attribute, one text, or several as a JSON array. */
  stop?: ExpertSwitcher["stopStrings"];
  /** Tokens that are written at once, at most; an end token ends the text earlier. Unset, 120, and 32 on a software adapter. */
  "max-new-tokens"?: ExpertSwitcher["maxNewTokens"];
  /** 0 takes the likeliest token each time; above 0, chance chooses. Unset, what the expert or the base say, else 0. */
  temperature?: ExpertSwitcher["temperature"];
  /** How many of the likeliest tokens chance chooses from; 40 where only `temperature` is set. */
  "top-k"?: ExpertSwitcher["topK"];
  /** Chance chooses from the fewest tokens whose probabilities sum up to this. */
  "top-p"?: ExpertSwitcher["topP"];
  /** Chance chooses from tokens that are at least so likely, as a share of the likeliest one's probability. */
  "min-p"?: ExpertSwitcher["minP"];
  /** Above 1, tokens that were there before become less likely. */
  "repetition-penalty"?: ExpertSwitcher["repetitionPenalty"];
  /** With the same seed, chance chooses the same tokens. */
  seed?: ExpertSwitcher["seed"];
  /** Load the base at once instead of asking with a button. */
  autoload?: ExpertSwitcher["autoload"];
  /** Each request is answered by the expert that it is for, found by what is asked; taking one by hand ends that. */
  auto?: ExpertSwitcher["auto"];
  /** Hash of the registry, as in HTML's `integrity`: any other one is refused. */
  integrity?: ExpertSwitcher["integrity"];
  /** The ed25519 public key, base64, of those who may publish the registry: one without their signature is refused. */
  "signed-by"?: ExpertSwitcher["signedBy"];
  /** Ids of the experts in hand, or on their way there; empty for the base. An unknown id fires `error`. In the attribute,
ids are separated by spaces. */
  active?: ExpertSwitcher["active"];
  /** Strength of what is in hand: 1 is an expert as it was made, 0 the base. The next token is written with it. */
  alpha?: ExpertSwitcher["alpha"];
  /** All that the element shows, as data. */
  state?: ExpertSwitcher["state"];
  /** Anything that is shown changed. */
  onchange?: (e: CustomEvent<import("tritswap/element").ExpertSwitcherEvents["change"]["detail"]>) => void;
  /** The base is in VRAM. */
  onready?: (e: CustomEvent<import("tritswap/element").ExpertSwitcherEvents["ready"]["detail"]>) => void;
  /** Bytes of the base or of an expert arrived. */
  onprogress?: (e: CustomEvent<import("tritswap/element").ExpertSwitcherEvents["progress"]["detail"]>) => void;
  /** Another pen is in hand. */
  onswitch?: (e: CustomEvent<import("tritswap/element").ExpertSwitcherEvents["switch"]["detail"]>) => void;
  /** A token was written. */
  ontoken?: (e: CustomEvent<import("tritswap/element").ExpertSwitcherEvents["token"]["detail"]>) => void;
  /** The base, an expert or the writing failed; the element shows it as well. */
  onerror?: (e: CustomEvent<import("tritswap/element").ExpertSwitcherEvents["error"]["detail"]>) => void;
};

export type CustomElements = {
  /**
   * A base model, its experts as pens, and the manuscript or the chat that they write. Several with the same `model` on a
   * page share one engine; each writes with its own experts.
   * ---
   *
   *
   * ### **Events:**
   *  - **change** - Anything that is shown changed.
   * - **ready** - The base is in VRAM.
   * - **progress** - Bytes of the base or of an expert arrived.
   * - **switch** - Another pen is in hand.
   * - **token** - A token was written.
   * - **error** - The base, an expert or the writing failed; the element shows it as well.
   *
   * ### **Methods:**
   *  - **activate(choice: _string | readonly (string | WeightedId)[]_): _Promise<void>_** - Takes experts in hand, also while text is being written. Called before base and registry are loaded, it waits for
   * them.
   * - **load(): _Promise<void>_** - Loads the base. Never rejects: `state` and the events `ready` and `error` tell how it went.
   * - **generate(): _Promise<void>_** - Writes on from the prompt, or asks it in a chat, after loading the base if need be; resolves when the text has ended or
   * was stopped.
   * - **continueText(): _Promise<void>_** - Goes on from the end of the manuscript, with the pens in hand; resolves when the text has ended or was stopped.
   * - **undo(): _void_** - Brings back the manuscript as it was before the last text was begun or continued.
   * - **ask(question: _string_, { fresh }: _Pick<AskOptions, 'fresh'>_, options): _Promise<void>_** - Asks something in the chat, after loading the base if need be; resolves when the answer has ended or was stopped.
   * - **continueAnswer(): _Promise<void>_** - Goes on with the last answer of the chat, which was stopped or reached the token limit.
   * - **regenerate(): _Promise<void>_** - Answers the last question of the chat again, with the pens in hand.
   * - **stop(): _void_** - Ends what is being written; the text so far stays.
   *
   * ### **Slots:**
   *  - **before** - shown while there is no base, above what the element says then
   * - **empty** - shown in the manuscript or the chat before anything is written
   * - **unsupported** - what to do without WebGPU, in place of the list of browsers
   *
   * ### **CSS Properties:**
   *  - **--trit-paper** - background of controls _(default: undefined)_
   * - **--trit-text** - text _(default: undefined)_
   * - **--trit-muted** - text of less weight _(default: undefined)_
   * - **--trit-hairline** - lines and borders _(default: undefined)_
   * - **--trit-wash** - background of what is pointed at _(default: undefined)_
   * - **--trit-error** - text of errors _(default: undefined)_
   * - **--trit-focus** - outline of what has the focus _(default: undefined)_
   * - **--trit-sans** - typeface of controls _(default: undefined)_
   * - **--trit-serif** - typeface of the manuscript _(default: undefined)_
   * - **--trit-radius** - of corners _(default: undefined)_
   * - **--trit-margin** - width of the margin with the names of the pens _(default: undefined)_
   * - **--ink-0** - ink of the base; `--ink-1` to `--ink-9` are those of the experts _(default: undefined)_
   *
   * ### **CSS Parts:**
   *  - **grid** - all of it
   * - **state** - stands in place of manuscript and chat while there is no base
   * - **prompt** - the prompt in the manuscript
   * - **pens** - the group of pens
   * - **pen** - one of them
   * - **mix** - strength and second pen
   * - **last-switch** - the last switch and its phases
   */
  "expert-switcher": DefineComponent<ExpertSwitcherProps>;
};

declare module "vue" {
  // eslint-disable-next-line @typescript-eslint/no-empty-interface
  interface GlobalComponents extends CustomElements {}
}

declare global {
  namespace JSX {
    // eslint-disable-next-line @typescript-eslint/no-empty-interface
    interface IntrinsicElements extends CustomElements {}
  }
}
