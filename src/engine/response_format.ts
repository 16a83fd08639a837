import { TritswapError } from '../errors.ts'

/** A JSON Schema. */
export type JsonSchema = Readonly<Record<string, unknown>>

/**
 * What an answer has to be. Every token is one that it can go on with, so that an answer that ends by itself parses; one
 * that `maxNewTokens` cuts does not. Tell the model in the prompt what is asked for: it is only kept from writing anything
 * else.
 */
export type ResponseFormat =
  | { type: 'text' }
  /** Any JSON object. */
  | { type: 'json_object' }
  /**
   * JSON that the schema describes. `strict` is whether objects have the properties that it names and no others, which is
   * so by default; `oneOf` is taken as `anyOf`, and a `pattern` has to fit the whole string.
   */
  | { type: 'json_schema'; schema: JsonSchema; strict?: boolean }

/** What a grammar is made of. */
export interface AnswerSchema {
  schema: JsonSchema
  strict: boolean
}

/**
 * @returns undefined for text
 * @throws {TritswapError} `input` for another type, `unsupported` for a schema that says what no grammar here holds to
 */
export function answerSchema(format: ResponseFormat | undefined): AnswerSchema | undefined {
  if (format === undefined || format.type === 'text') return undefined
  if (format.type === 'json_object') return { schema: { type: 'object' }, strict: false }
  const { type, schema, strict = true } = format
  if (type !== 'json_schema' || !isObject(schema)) {
    const found = type === 'json_schema' ? `a schema of the type ${typeof schema}` : String(type)
    throw new TritswapError(
      'input',
      `Cannot answer in the format ${found}: expected text, json_object, or json_schema with a schema that is an object`,
      { fields: { field: 'responseFormat' } },
    )
  }
  checkSchema(schema, '#')
  return { schema, strict }
}

/** Keywords of JSON Schema by the type of value that they speak of. */
const OF_TYPES: Record<string, readonly string[]> = {
  object: [
    'properties',
    'required',
    'patternProperties',
    'propertyNames',
    'additionalProperties',
    'unevaluatedProperties',
    'minProperties',
    'maxProperties',
  ],
  array: ['items', 'prefixItems', 'unevaluatedItems', 'minItems', 'maxItems'],
  string: ['minLength', 'maxLength', 'pattern'],
  number: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'],
}
/** Of those, what makes an untyped schema one of the type. */
const TELLING: Record<string, readonly string[]> = {
  object: ['properties', 'additionalProperties', 'unevaluatedProperties'],
  array: ['items', 'prefixItems', 'unevaluatedItems'],
}
/** The library takes the first of these that a schema has, and passes over what stands beside it. */
const ALONE = ['$ref', 'const', 'enum', 'anyOf', 'oneOf', 'allOf']
/** Keywords that the library passes over wherever they stand, by the type that they speak of. */
const NEVER: Record<string, readonly string[]> = {
  object: ['dependentRequired', 'dependentSchemas', 'dependencies'],
  array: ['additionalItems', 'uniqueItems', 'contains', 'minContains', 'maxContains'],
  number: ['multipleOf'],
}
const NOT_AT_ALL = ['not', 'if', 'then', 'else']

/** A promise that answers fit is only kept where the grammar holds to every keyword. */
function checkSchema(schema: JsonSchema, path: string): void {
  const [alone] = ALONE.filter((keyword) => keyword in schema)
  const types = alone === undefined ? typesOf(schema) : []
  const held = new Set([alone, ...types.flatMap((type) => OF_TYPES[type] ?? [])])
  const said = [...ALONE, ...NOT_AT_ALL, ...spoken(OF_TYPES, types), ...spoken(NEVER, types)]
  const passed = said.find((keyword) => keyword in schema && !held.has(keyword))
  if (passed !== undefined) refuse(passed, path)
  if (alone === 'allOf' && lengthOf(schema.allOf) > 1) refuse('allOf of several schemas', path)
  if (types.includes('string') && 'pattern' in schema && ('minLength' in schema || 'maxLength' in schema))
    refuse('pattern beside a length', path)
  const unnamed = [schema.required ?? []].flat().find((name) => !isNamed(schema, name))
  if (alone === undefined && unnamed !== undefined) refuse(`required ${unnamed}, which is no property,`, path)
  for (const [at, part] of partsOf(schema)) checkSchema(part, `${path}/${at}`)
}

/** What an assertion may be of, where types are given: others say nothing of a value of the type. */
function spoken(keywords: Record<string, readonly string[]>, types: readonly string[]): string[] {
  const of = types.length === 0 ? Object.keys(keywords) : types
  return of.flatMap((type) => keywords[type] ?? [])
}

function typesOf(schema: JsonSchema): string[] {
  const { type } = schema
  if (type !== undefined) return [type].flat().map((name) => (name === 'integer' ? 'number' : String(name)))
  const telling = Object.entries(TELLING).find(([, keywords]) =>
    keywords.some((keyword) => keyword in schema),
  )
  return telling === undefined ? [] : [telling[0]]
}

/** Keywords that hold schemas: one, a list, or one for each name. */
const HOLDERS = [
  'items',
  'prefixItems',
  'unevaluatedItems',
  'additionalProperties',
  'unevaluatedProperties',
  'propertyNames',
  'anyOf',
  'oneOf',
  'allOf',
]
const NAMED = ['properties', 'patternProperties', '$defs', 'definitions']

function partsOf(schema: JsonSchema): [string, JsonSchema][] {
  const held = HOLDERS.filter((keyword) => keyword in schema).flatMap((keyword) => {
    const value = schema[keyword]
    if (!Array.isArray(value)) return [[keyword, value] as const]
    return value.map((part, at) => [`${keyword}/${at}`, part] as const)
  })
  const named = NAMED.filter((keyword) => isObject(schema[keyword])).flatMap((keyword) =>
    Object.entries(schema[keyword] as JsonSchema).map(
      ([name, part]) => [`${keyword}/${name}`, part] as const,
    ),
  )
  return [...held, ...named].filter((part): part is [string, JsonSchema] => isObject(part[1]))
}

function refuse(keyword: string, path: string): never {
  throw new TritswapError(
    'unsupported',
    `Cannot hold an answer to ${keyword} at ${path} of the schema: leave it out, and check answers for it`,
    { fields: { keyword, path } },
  )
}

function isNamed({ properties }: JsonSchema, name: unknown): boolean {
  return isObject(properties) && Object.hasOwn(properties, String(name))
}

const lengthOf = (value: unknown): number => (Array.isArray(value) ? value.length : 0)

function isObject(value: unknown): value is JsonSchema {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
