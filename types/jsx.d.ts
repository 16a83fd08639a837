import type { ExpertSwitcher } from "tritswap/element";

/**
 * This type can be used to create scoped tags for your components.
 *
 * Usage:
 *
 * ```ts
 * import type { ScopedElements } from "path/to/library/jsx-integration";
 *
 * declare module "my-library" {
 *   namespace JSX {
 *     interface IntrinsicElements
 *       extends ScopedElements<'test-', ''> {}
 *   }
 * }
 * ```
 *
 * @deprecated Runtime scoped elements result in duplicate types and can confusing for developers. It is recommended to use the `prefix` and `suffix` options to generate new types instead.
 */
export type ScopedElements<
  Prefix extends string = "",
  Suffix extends string = "",
> = {
  [
    Key in keyof CustomElements as `${Prefix}${Key}${Suffix}`
  ]: CustomElements[Key];
};

/**
 * A generic type for strongly typing custom events with their targets
 * @template T - The type of the event target (extends EventTarget)
 * @template D - The type of the detail payload for the custom event
 */
type TypedEvent<T extends EventTarget, E = Event> = E & {
  target: T;
};

type BaseProps<T extends HTMLElement> = {
  /** Content added between the opening and closing tags of the element */
  children?: any | undefined;
  /** Used for declaratively styling one or more elements using CSS (Cascading Stylesheets) */
  class?: string | undefined;
  /** Used for declaratively styling one or more elements using CSS (Cascading Stylesheets) */
  className?: string | undefined;
  /** Takes an object where the key is the class name(s) and the value is a boolean expression. When true, the class is applied, and when false, it is removed. */
  classList?: Record<string, boolean | undefined> | undefined;
  /** Specifies the text direction of the element. */
  dir?: "ltr" | "rtl" | undefined;
  /** Contains a space-separated list of the part names of the element that should be exposed on the host element. */
  exportparts?: string | undefined;
  /** For <label> and <output>, lets you associate the label with some control. */
  htmlFor?: string | undefined;
  /** Specifies whether the element should be hidden. */
  hidden?: boolean | string | undefined;
  /** A unique identifier for the element. */
  id?: string | undefined;
  /** Keys tell React which array item each component corresponds to */
  key?: string | number | undefined;
  /** Specifies the language of the element. */
  lang?: string | undefined;
  /** Defines the element's semantic role for accessibility APIs. */
  role?: string | undefined;
  /** Contains a space-separated list of the part names of the element. Part names allows CSS to select and style specific elements in a shadow tree via the ::part pseudo-element. */
  part?: string | undefined;
  /** Use the ref attribute with a variable to assign a DOM element to the variable once the element is rendered. */
  ref?: (T | ((e: T) => void)) | undefined;
  /** Adds a reference for a custom element slot */
  slot?: string | undefined;
  /** Prop for setting inline styles */
  style?: Record<string, string | number> | undefined;
  /** Overrides the default Tab button behavior. Avoid using values other than -1 and 0. */
  tabIndex?: number | undefined;
  /** Specifies the tooltip text for the element. */
  title?: string | undefined;
  /** Passing 'no' excludes the element content from being translated. */
  translate?: "yes" | "no" | undefined;
  /** The popover global attribute is used to designate an element as a popover element. */
  popover?: "auto" | "hint" | "manual" | undefined;
  /** Turns an element element into a popover control button; takes the ID of the popover element to control as its value. */
  popovertarget?: "top" | "bottom" | "left" | "right" | "auto" | undefined;
  /** Specifies the action to be performed on a popover element being controlled by a control element. */
  popovertargetaction?: "show" | "hide" | "toggle" | undefined;
};

type BaseEvents = {};

/** `ExpertSwitcher` component event */
export type ExpertSwitcherElementEvent<E = Event> = TypedEvent<
  ExpertSwitcher,
  E
>;
/** `change` event type */
export type ExpertSwitcherChangeElementEvent = ExpertSwitcherElementEvent<
  import("tritswap/element").ExpertSwitcherEvents["change"]
>;
/** `ready` event type */
export type ExpertSwitcherReadyElementEvent = ExpertSwitcherElementEvent<
  import("tritswap/element").ExpertSwitcherEvents["ready"]
>;
/** `progress` event type */
export type ExpertSwitcherProgressElementEvent = ExpertSwitcherElementEvent<
  import("tritswap/element").ExpertSwitcherEvents["progress"]
>;
/** `switch` event type */
export type ExpertSwitcherSwitchElementEvent = ExpertSwitcherElementEvent<
  import("tritswap/element").ExpertSwitcherEvents["switch"]
>;
/** `token` event type */
export type ExpertSwitcherTokenElementEvent = ExpertSwitcherElementEvent<
  import("tritswap/element").ExpertSwitcherEvents["token"]
>;
/** `error` event type */
export type ExpertSwitcherErrorElementEvent = ExpertSwitcherElementEvent<
  import("tritswap/element").ExpertSwitcherEvents["error"]
>;

export type ExpertSwitcherProps = {
  /** Folder of the base: an address, absolute or relative to the page, or `hf:owner/name@revision`. */
  model?: ExpertSwitcher["model"] | undefined;
  /** Address of the registry, `experts.json`. */
  experts?: ExpertSwitcher["experts"] | undefined;
  /** Folder that `tritswap assets` copied the workers and onnxruntime-web's files to. Only needed where a bundler separated
the library from them. */
  assets?: ExpertSwitcher["assets"] | undefined;
  /** Start workers from `blob:` addresses, for pages whose content security policy allows no others. */
  "blob-workers"?: ExpertSwitcher["blobWorkers"] | undefined;
  /** Start workers from `blob:` addresses, for pages whose content security policy allows no others. */
  blobWorkers?: ExpertSwitcher["blobWorkers"] | undefined;
  /** `manuscript` goes on from a text, `chat` answers; a chat needs a base whose tokenizer has a chat template. */
  mode?: ExpertSwitcher["mode"] | undefined;
  /** The text to go on from; in a chat, the next question. */
  prompt?: ExpertSwitcher["prompt"] | undefined;
  /** System message of the chat. Unset, it is the one that comes with the expert in hand, if there is one. */
  system?: ExpertSwitcher["system"] | undefined;
  /** Texts that end what is written where one of them would come. In the attribute, one text, or several as a JSON array. */
  stop?: ExpertSwitcher["stopStrings"] | undefined;
  /** Texts that end what is written where one of them would come. In the attribute, one text, or several as a JSON array. */
  stopStrings?: ExpertSwitcher["stopStrings"] | undefined;
  /** Tokens that are written at once, at most; an end token ends the text earlier. Unset, 120, and 32 on a software adapter. */
  "max-new-tokens"?: ExpertSwitcher["maxNewTokens"] | undefined;
  /** Tokens that are written at once, at most; an end token ends the text earlier. Unset, 120, and 32 on a software adapter. */
  maxNewTokens?: ExpertSwitcher["maxNewTokens"] | undefined;
  /** 0 takes the likeliest token each time; above 0, chance chooses. Unset, what the expert or the base say, else 0. */
  temperature?: ExpertSwitcher["temperature"] | undefined;
  /** How many of the likeliest tokens chance chooses from; 40 where only `temperature` is set. */
  "top-k"?: ExpertSwitcher["topK"] | undefined;
  /** How many of the likeliest tokens chance chooses from; 40 where only `temperature` is set. */
  topK?: ExpertSwitcher["topK"] | undefined;
  /** Chance chooses from the fewest tokens whose probabilities sum up to this. */
  "top-p"?: ExpertSwitcher["topP"] | undefined;
  /** Chance chooses from the fewest tokens whose probabilities sum up to this. */
  topP?: ExpertSwitcher["topP"] | undefined;
  /** Chance chooses from tokens that are at least so likely, as a share of the likeliest one's probability. */
  "min-p"?: ExpertSwitcher["minP"] | undefined;
  /** Chance chooses from tokens that are at least so likely, as a share of the likeliest one's probability. */
  minP?: ExpertSwitcher["minP"] | undefined;
  /** Above 1, tokens that were there before become less likely. */
  "repetition-penalty"?: ExpertSwitcher["repetitionPenalty"] | undefined;
  /** Above 1, tokens that were there before become less likely. */
  repetitionPenalty?: ExpertSwitcher["repetitionPenalty"] | undefined;
  /** With the same seed, chance chooses the same tokens. */
  seed?: ExpertSwitcher["seed"] | undefined;
  /** Load the base at once instead of asking with a button. */
  autoload?: ExpertSwitcher["autoload"] | undefined;
  /** Each request is answered by the expert that it is for, found by what is asked; taking one by hand ends that. */
  auto?: ExpertSwitcher["auto"] | undefined;
  /** Hash of the registry, as in HTML's `integrity`: any other one is refused. */
  integrity?: ExpertSwitcher["integrity"] | undefined;
  /** The ed25519 public key, base64, of those who may publish the registry: one without their signature is refused. */
  "signed-by"?: ExpertSwitcher["signedBy"] | undefined;
  /** The ed25519 public key, base64, of those who may publish the registry: one without their signature is refused. */
  signedBy?: ExpertSwitcher["signedBy"] | undefined;
  /** Ids of the experts in hand, or on their way there; empty for the base. An unknown id fires `error`. In the attribute,
ids are separated by spaces. */
  active?: ExpertSwitcher["active"] | undefined;
  /** Strength of what is in hand: 1 is an expert as it was made, 0 the base. The next token is written with it. */
  alpha?: ExpertSwitcher["alpha"] | undefined;

  /** Anything that is shown changed. */
  onchange?: ((e: ExpertSwitcherChangeElementEvent) => void) | undefined;
  /** The base is in VRAM. */
  onready?: ((e: ExpertSwitcherReadyElementEvent) => void) | undefined;
  /** Bytes of the base or of an expert arrived. */
  onprogress?: ((e: ExpertSwitcherProgressElementEvent) => void) | undefined;
  /** Another pen is in hand. */
  onswitch?: ((e: ExpertSwitcherSwitchElementEvent) => void) | undefined;
  /** A token was written. */
  ontoken?: ((e: ExpertSwitcherTokenElementEvent) => void) | undefined;
  /** The base, an expert or the writing failed; the element shows it as well. */
  onerror?: ((e: ExpertSwitcherErrorElementEvent) => void) | undefined;
};

export type ExpertSwitcherSolidJsProps = {
  /** Folder of the base: an address, absolute or relative to the page, or `hf:owner/name@revision`. */
  "prop:model"?: ExpertSwitcher["model"] | undefined;
  /** Address of the registry, `experts.json`. */
  "prop:experts"?: ExpertSwitcher["experts"] | undefined;
  /** Folder that `tritswap assets` copied the workers and onnxruntime-web's files to. Only needed where a bundler separated
the library from them. */
  "prop:assets"?: ExpertSwitcher["assets"] | undefined;
  /** Start workers from `blob:` addresses, for pages whose content security policy allows no others. */
  "bool:blob-workers"?: ExpertSwitcher["blobWorkers"] | undefined;
  /** Start workers from `blob:` addresses, for pages whose content security policy allows no others. */
  "prop:blobWorkers"?: ExpertSwitcher["blobWorkers"] | undefined;
  /** `manuscript` goes on from a text, `chat` answers; a chat needs a base whose tokenizer has a chat template. */
  "prop:mode"?: ExpertSwitcher["mode"] | undefined;
  /** The text to go on from; in a chat, the next question. */
  "prop:prompt"?: ExpertSwitcher["prompt"] | undefined;
  /** System message of the chat. Unset, it is the one that comes with the expert in hand, if there is one. */
  "prop:system"?: ExpertSwitcher["system"] | undefined;
  /** Texts that end what is written where one of them would come. In the attribute, one text, or several as a JSON array. */
  "attr:stop"?: ExpertSwitcher["stopStrings"] | undefined;
  /** Texts that end what is written where one of them would come. In the attribute, one text, or several as a JSON array. */
  "prop:stopStrings"?: ExpertSwitcher["stopStrings"] | undefined;
  /** Tokens that are written at once, at most; an end token ends the text earlier. Unset, 120, and 32 on a software adapter. */
  "attr:max-new-tokens"?: ExpertSwitcher["maxNewTokens"] | undefined;
  /** Tokens that are written at once, at most; an end token ends the text earlier. Unset, 120, and 32 on a software adapter. */
  "prop:maxNewTokens"?: ExpertSwitcher["maxNewTokens"] | undefined;
  /** 0 takes the likeliest token each time; above 0, chance chooses. Unset, what the expert or the base say, else 0. */
  "prop:temperature"?: ExpertSwitcher["temperature"] | undefined;
  /** How many of the likeliest tokens chance chooses from; 40 where only `temperature` is set. */
  "attr:top-k"?: ExpertSwitcher["topK"] | undefined;
  /** How many of the likeliest tokens chance chooses from; 40 where only `temperature` is set. */
  "prop:topK"?: ExpertSwitcher["topK"] | undefined;
  /** Chance chooses from the fewest tokens whose probabilities sum up to this. */
  "attr:top-p"?: ExpertSwitcher["topP"] | undefined;
  /** Chance chooses from the fewest tokens whose probabilities sum up to this. */
  "prop:topP"?: ExpertSwitcher["topP"] | undefined;
  /** Chance chooses from tokens that are at least so likely, as a share of the likeliest one's probability. */
  "attr:min-p"?: ExpertSwitcher["minP"] | undefined;
  /** Chance chooses from tokens that are at least so likely, as a share of the likeliest one's probability. */
  "prop:minP"?: ExpertSwitcher["minP"] | undefined;
  /** Above 1, tokens that were there before become less likely. */
  "attr:repetition-penalty"?: ExpertSwitcher["repetitionPenalty"] | undefined;
  /** Above 1, tokens that were there before become less likely. */
  "prop:repetitionPenalty"?: ExpertSwitcher["repetitionPenalty"] | undefined;
  /** With the same seed, chance chooses the same tokens. */
  "prop:seed"?: ExpertSwitcher["seed"] | undefined;
  /** Load the base at once instead of asking with a button. */
  "prop:autoload"?: ExpertSwitcher["autoload"] | undefined;
  /** Each request is answered by the expert that it is for, found by what is asked; taking one by hand ends that. */
  "prop:auto"?: ExpertSwitcher["auto"] | undefined;
  /** Hash of the registry, as in HTML's `integrity`: any other one is refused. */
  "prop:integrity"?: ExpertSwitcher["integrity"] | undefined;
  /** The ed25519 public key, base64, of those who may publish the registry: one without their signature is refused. */
  "attr:signed-by"?: ExpertSwitcher["signedBy"] | undefined;
  /** The ed25519 public key, base64, of those who may publish the registry: one without their signature is refused. */
  "prop:signedBy"?: ExpertSwitcher["signedBy"] | undefined;
  /** Ids of the experts in hand, or on their way there; empty for the base. An unknown id fires `error`. In the attribute,
ids are separated by spaces. */
  "prop:active"?: ExpertSwitcher["active"] | undefined;
  /** Strength of what is in hand: 1 is an expert as it was made, 0 the base. The next token is written with it. */
  "prop:alpha"?: ExpertSwitcher["alpha"] | undefined;
  /** Anything that is shown changed. */
  "on:change"?: ((e: ExpertSwitcherChangeElementEvent) => void) | undefined;
  /** The base is in VRAM. */
  "on:ready"?: ((e: ExpertSwitcherReadyElementEvent) => void) | undefined;
  /** Bytes of the base or of an expert arrived. */
  "on:progress"?: ((e: ExpertSwitcherProgressElementEvent) => void) | undefined;
  /** Another pen is in hand. */
  "on:switch"?: ((e: ExpertSwitcherSwitchElementEvent) => void) | undefined;
  /** A token was written. */
  "on:token"?: ((e: ExpertSwitcherTokenElementEvent) => void) | undefined;
  /** The base, an expert or the writing failed; the element shows it as well. */
  "on:error"?: ((e: ExpertSwitcherErrorElementEvent) => void) | undefined;

  /** Set the innerHTML of the element */
  innerHTML?: string | undefined;
  /** Set the textContent of the element */
  textContent?: string | number | undefined;
};

export type CustomElements = {
  /**
   * A base model, its experts as pens, and the manuscript or the chat that they write. Several with the same `model` on a
   * page share one engine; each writes with its own experts.
   *
   * ## Attributes & Properties
   *
   * Component attributes and properties that can be applied to the element or by using JavaScript.
   *
   * - `model`: Folder of the base: an address, absolute or relative to the page, or `hf:owner/name@revision`.
   * - `experts`: Address of the registry, `experts.json`.
   * - `assets`: Folder that `tritswap assets` copied the workers and onnxruntime-web's files to. Only needed where a bundler separated
   * the library from them.
   * - `blob-workers`/`blobWorkers`: Start workers from `blob:` addresses, for pages whose content security policy allows no others.
   * - `mode`: `manuscript` goes on from a text, `chat` answers; a chat needs a base whose tokenizer has a chat template.
   * - `prompt`: The text to go on from; in a chat, the next question.
   * - `system`: System message of the chat. Unset, it is the one that comes with the expert in hand, if there is one.
   * - `stop`/`stopStrings`: Texts that end what is written where one of them would come. In the attribute, one text, or several as a JSON array.
   * - `max-new-tokens`/`maxNewTokens`: Tokens that are written at once, at most; an end token ends the text earlier. Unset, 120, and 32 on a software adapter.
   * - `temperature`: 0 takes the likeliest token each time; above 0, chance chooses. Unset, what the expert or the base say, else 0.
   * - `top-k`/`topK`: How many of the likeliest tokens chance chooses from; 40 where only `temperature` is set.
   * - `top-p`/`topP`: Chance chooses from the fewest tokens whose probabilities sum up to this.
   * - `min-p`/`minP`: Chance chooses from tokens that are at least so likely, as a share of the likeliest one's probability.
   * - `repetition-penalty`/`repetitionPenalty`: Above 1, tokens that were there before become less likely.
   * - `seed`: With the same seed, chance chooses the same tokens.
   * - `autoload`: Load the base at once instead of asking with a button.
   * - `auto`: Each request is answered by the expert that it is for, found by what is asked; taking one by hand ends that.
   * - `integrity`: Hash of the registry, as in HTML's `integrity`: any other one is refused.
   * - `signed-by`/`signedBy`: The ed25519 public key, base64, of those who may publish the registry: one without their signature is refused.
   * - `active`: Ids of the experts in hand, or on their way there; empty for the base. An unknown id fires `error`. In the attribute,
   * ids are separated by spaces.
   * - `alpha`: Strength of what is in hand: 1 is an expert as it was made, 0 the base. The next token is written with it.
   * - `state`: All that the element shows, as data. (property only) (readonly)
   *
   * ## Events
   *
   * Events that will be emitted by the component.
   *
   * - `change`: Anything that is shown changed.
   * - `ready`: The base is in VRAM.
   * - `progress`: Bytes of the base or of an expert arrived.
   * - `switch`: Another pen is in hand.
   * - `token`: A token was written.
   * - `error`: The base, an expert or the writing failed; the element shows it as well.
   *
   * ## Slots
   *
   * Areas where markup can be added to the component.
   *
   * - `before`: shown while there is no base, above what the element says then
   * - `empty`: shown in the manuscript or the chat before anything is written
   * - `unsupported`: what to do without WebGPU, in place of the list of browsers
   *
   * ## Methods
   *
   * Methods that can be called to access component functionality.
   *
   * - `activate(choice: string | readonly (string | WeightedId)[]) => Promise<void>`: Takes experts in hand, also while text is being written. Called before base and registry are loaded, it waits for
   * them.
   * - `load() => Promise<void>`: Loads the base. Never rejects: `state` and the events `ready` and `error` tell how it went.
   * - `generate() => Promise<void>`: Writes on from the prompt, or asks it in a chat, after loading the base if need be; resolves when the text has ended or
   * was stopped.
   * - `continueText() => Promise<void>`: Goes on from the end of the manuscript, with the pens in hand; resolves when the text has ended or was stopped.
   * - `undo() => void`: Brings back the manuscript as it was before the last text was begun or continued.
   * - `ask(question: string, { fresh }: Pick<AskOptions, 'fresh'> = {}, options) => Promise<void>`: Asks something in the chat, after loading the base if need be; resolves when the answer has ended or was stopped.
   * - `continueAnswer() => Promise<void>`: Goes on with the last answer of the chat, which was stopped or reached the token limit.
   * - `regenerate() => Promise<void>`: Answers the last question of the chat again, with the pens in hand.
   * - `stop() => void`: Ends what is being written; the text so far stays.
   *
   * ## CSS Custom Properties
   *
   * CSS variables available for styling the component.
   *
   * - `--trit-paper`: background of controls (default: `undefined`)
   * - `--trit-text`: text (default: `undefined`)
   * - `--trit-muted`: text of less weight (default: `undefined`)
   * - `--trit-hairline`: lines and borders (default: `undefined`)
   * - `--trit-wash`: background of what is pointed at (default: `undefined`)
   * - `--trit-error`: text of errors (default: `undefined`)
   * - `--trit-focus`: outline of what has the focus (default: `undefined`)
   * - `--trit-sans`: typeface of controls (default: `undefined`)
   * - `--trit-serif`: typeface of the manuscript (default: `undefined`)
   * - `--trit-radius`: of corners (default: `undefined`)
   * - `--trit-margin`: width of the margin with the names of the pens (default: `undefined`)
   * - `--ink-0`: ink of the base; `--ink-1` to `--ink-9` are those of the experts (default: `undefined`)
   *
   * ## CSS Parts
   *
   * Custom selectors for styling elements within the component.
   *
   * - `grid`: all of it
   * - `state`: stands in place of manuscript and chat while there is no base
   * - `prompt`: the prompt in the manuscript
   * - `pens`: the group of pens
   * - `pen`: one of them
   * - `mix`: strength and second pen
   * - `last-switch`: the last switch and its phases
   */
  "expert-switcher": Partial<
    ExpertSwitcherProps & BaseProps<ExpertSwitcher> & BaseEvents
  >;
};

export type CustomElementsSolidJs = {
  /**
   * A base model, its experts as pens, and the manuscript or the chat that they write. Several with the same `model` on a
   * page share one engine; each writes with its own experts.
   *
   * ## Attributes & Properties
   *
   * Component attributes and properties that can be applied to the element or by using JavaScript.
   *
   * - `model`: Folder of the base: an address, absolute or relative to the page, or `hf:owner/name@revision`.
   * - `experts`: Address of the registry, `experts.json`.
   * - `assets`: Folder that `tritswap assets` copied the workers and onnxruntime-web's files to. Only needed where a bundler separated
   * the library from them.
   * - `blob-workers`/`blobWorkers`: Start workers from `blob:` addresses, for pages whose content security policy allows no others.
   * - `mode`: `manuscript` goes on from a text, `chat` answers; a chat needs a base whose tokenizer has a chat template.
   * - `prompt`: The text to go on from; in a chat, the next question.
   * - `system`: System message of the chat. Unset, it is the one that comes with the expert in hand, if there is one.
   * - `stop`/`stopStrings`: Texts that end what is written where one of them would come. In the attribute, one text, or several as a JSON array.
   * - `max-new-tokens`/`maxNewTokens`: Tokens that are written at once, at most; an end token ends the text earlier. Unset, 120, and 32 on a software adapter.
   * - `temperature`: 0 takes the likeliest token each time; above 0, chance chooses. Unset, what the expert or the base say, else 0.
   * - `top-k`/`topK`: How many of the likeliest tokens chance chooses from; 40 where only `temperature` is set.
   * - `top-p`/`topP`: Chance chooses from the fewest tokens whose probabilities sum up to this.
   * - `min-p`/`minP`: Chance chooses from tokens that are at least so likely, as a share of the likeliest one's probability.
   * - `repetition-penalty`/`repetitionPenalty`: Above 1, tokens that were there before become less likely.
   * - `seed`: With the same seed, chance chooses the same tokens.
   * - `autoload`: Load the base at once instead of asking with a button.
   * - `auto`: Each request is answered by the expert that it is for, found by what is asked; taking one by hand ends that.
   * - `integrity`: Hash of the registry, as in HTML's `integrity`: any other one is refused.
   * - `signed-by`/`signedBy`: The ed25519 public key, base64, of those who may publish the registry: one without their signature is refused.
   * - `active`: Ids of the experts in hand, or on their way there; empty for the base. An unknown id fires `error`. In the attribute,
   * ids are separated by spaces.
   * - `alpha`: Strength of what is in hand: 1 is an expert as it was made, 0 the base. The next token is written with it.
   * - `state`: All that the element shows, as data. (property only) (readonly)
   *
   * ## Events
   *
   * Events that will be emitted by the component.
   *
   * - `change`: Anything that is shown changed.
   * - `ready`: The base is in VRAM.
   * - `progress`: Bytes of the base or of an expert arrived.
   * - `switch`: Another pen is in hand.
   * - `token`: A token was written.
   * - `error`: The base, an expert or the writing failed; the element shows it as well.
   *
   * ## Slots
   *
   * Areas where markup can be added to the component.
   *
   * - `before`: shown while there is no base, above what the element says then
   * - `empty`: shown in the manuscript or the chat before anything is written
   * - `unsupported`: what to do without WebGPU, in place of the list of browsers
   *
   * ## Methods
   *
   * Methods that can be called to access component functionality.
   *
   * - `activate(choice: string | readonly (string | WeightedId)[]) => Promise<void>`: Takes experts in hand, also while text is being written. Called before base and registry are loaded, it waits for
   * them.
   * - `load() => Promise<void>`: Loads the base. Never rejects: `state` and the events `ready` and `error` tell how it went.
   * - `generate() => Promise<void>`: Writes on from the prompt, or asks it in a chat, after loading the base if need be; resolves when the text has ended or
   * was stopped.
   * - `continueText() => Promise<void>`: Goes on from the end of the manuscript, with the pens in hand; resolves when the text has ended or was stopped.
   * - `undo() => void`: Brings back the manuscript as it was before the last text was begun or continued.
   * - `ask(question: string, { fresh }: Pick<AskOptions, 'fresh'> = {}, options) => Promise<void>`: Asks something in the chat, after loading the base if need be; resolves when the answer has ended or was stopped.
   * - `continueAnswer() => Promise<void>`: Goes on with the last answer of the chat, which was stopped or reached the token limit.
   * - `regenerate() => Promise<void>`: Answers the last question of the chat again, with the pens in hand.
   * - `stop() => void`: Ends what is being written; the text so far stays.
   *
   * ## CSS Custom Properties
   *
   * CSS variables available for styling the component.
   *
   * - `--trit-paper`: background of controls (default: `undefined`)
   * - `--trit-text`: text (default: `undefined`)
   * - `--trit-muted`: text of less weight (default: `undefined`)
   * - `--trit-hairline`: lines and borders (default: `undefined`)
   * - `--trit-wash`: background of what is pointed at (default: `undefined`)
   * - `--trit-error`: text of errors (default: `undefined`)
   * - `--trit-focus`: outline of what has the focus (default: `undefined`)
   * - `--trit-sans`: typeface of controls (default: `undefined`)
   * - `--trit-serif`: typeface of the manuscript (default: `undefined`)
   * - `--trit-radius`: of corners (default: `undefined`)
   * - `--trit-margin`: width of the margin with the names of the pens (default: `undefined`)
   * - `--ink-0`: ink of the base; `--ink-1` to `--ink-9` are those of the experts (default: `undefined`)
   *
   * ## CSS Parts
   *
   * Custom selectors for styling elements within the component.
   *
   * - `grid`: all of it
   * - `state`: stands in place of manuscript and chat while there is no base
   * - `prompt`: the prompt in the manuscript
   * - `pens`: the group of pens
   * - `pen`: one of them
   * - `mix`: strength and second pen
   * - `last-switch`: the last switch and its phases
   */
  "expert-switcher": Partial<
    ExpertSwitcherProps &
      ExpertSwitcherSolidJsProps &
      BaseProps<ExpertSwitcher> &
      BaseEvents
  >;
};

export type CustomCssProperties = {
  /** background of controls */
  "--trit-paper"?: string | undefined;
  /** text */
  "--trit-text"?: string | undefined;
  /** text of less weight */
  "--trit-muted"?: string | undefined;
  /** lines and borders */
  "--trit-hairline"?: string | undefined;
  /** background of what is pointed at */
  "--trit-wash"?: string | undefined;
  /** text of errors */
  "--trit-error"?: string | undefined;
  /** outline of what has the focus */
  "--trit-focus"?: string | undefined;
  /** typeface of controls */
  "--trit-sans"?: string | undefined;
  /** typeface of the manuscript */
  "--trit-serif"?: string | undefined;
  /** of corners */
  "--trit-radius"?: string | undefined;
  /** width of the margin with the names of the pens */
  "--trit-margin"?: string | undefined;
  /** ink of the base; `--ink-1` to `--ink-9` are those of the experts */
  "--ink-0"?: string | undefined;
};

declare module "react" {
  namespace JSX {
    interface IntrinsicElements extends CustomElements {}
  }
  export interface CSSProperties extends CustomCssProperties {}
}

declare module "react/jsx-runtime" {
  namespace JSX {
    interface IntrinsicElements extends CustomElements {}
  }
  export interface CSSProperties extends CustomCssProperties {}
}

declare module "react/jsx-dev-runtime" {
  namespace JSX {
    interface IntrinsicElements extends CustomElements {}
  }
  export interface CSSProperties extends CustomCssProperties {}
}

declare module "preact" {
  namespace JSX {
    interface IntrinsicElements extends CustomElements {}
  }
  export interface CSSProperties extends CustomCssProperties {}
}

declare module "@builder.io/qwik" {
  namespace JSX {
    interface IntrinsicElements extends CustomElements {}
  }
  export interface CSSProperties extends CustomCssProperties {}
}

declare module "@stencil/core" {
  namespace JSX {
    interface IntrinsicElements extends CustomElements {}
  }
  export interface CSSProperties extends CustomCssProperties {}
}

declare module "hono/jsx" {
  namespace JSX {
    interface IntrinsicElements extends CustomElements {}
  }
  export interface CSSProperties extends CustomCssProperties {}
}

declare module "react-native" {
  namespace JSX {
    interface IntrinsicElements extends CustomElements {}
  }
  export interface CSSProperties extends CustomCssProperties {}
}

declare module "solid-js" {
  namespace JSX {
    interface IntrinsicElements extends CustomElementsSolidJs {}
  }
  export interface CSSProperties extends CustomCssProperties {}
}

declare global {
  namespace JSX {
    interface IntrinsicElements extends CustomElements {}
  }
  export interface CSSProperties extends CustomCssProperties {}
}
