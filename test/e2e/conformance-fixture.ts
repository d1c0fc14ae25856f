/**
 * The server the conformance suite of MCP wants to meet: tools, resources and prompts under the names it asks for. It
 * stands behind our door in the place of the gateway's own, so that what is tried is the door.
 */
import { createHmac, randomBytes } from 'node:crypto'
import {
  CLIENT_CAPABILITIES_META_KEY,
  inputRequired,
  inputResponse,
  MissingRequiredClientCapabilityError,
  ProtocolError,
  ProtocolErrorCode,
  ResourceNotFoundError,
  Server,
} from '@modelcontextprotocol/server'
import type {
  CallToolResult,
  GetPromptResult,
  InputRequiredResult,
  ListToolsResult,
  ServerContext,
} from '@modelcontextprotocol/server'

type Args = Readonly<Record<string, unknown>>
type Run = (ctx: ServerContext, args: Args) => Promise<CallToolResult | InputRequiredResult>

interface FixtureTool {
  readonly run: Run
  readonly inputSchema?: ListToolsResult['tools'][number]['inputSchema']
}

/** One pixel, and a sound of no length. */
const PNG = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=='
const WAV = 'UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA='

const said = (...text: readonly string[]): CallToolResult => ({
  content: text.map((line) => ({ type: 'text', text: line })),
})

const always =
  (result: CallToolResult): Run =>
  async () =>
    result

const STATE_KEY = randomBytes(32)
const signed = (state: string): string => `${state}.${createHmac('sha256', STATE_KEY).update(state).digest('hex')}`

/** What a client echoes is anybody's until its signature is looked at. */
async function verify(state: string): Promise<string> {
  const [value = ''] = state.split('.')
  if (signed(value) !== state) throw new ProtocolError(ProtocolErrorCode.InvalidParams, 'The state was changed.')
  return value
}

const asks = (message: string, name: string, type = 'string'): ReturnType<typeof inputRequired.elicit> =>
  inputRequired.elicit({
    message,
    requestedSchema: { type: 'object', properties: { [name]: { type } }, required: [name] },
  } as Parameters<typeof inputRequired.elicit>[0])
const samples = (text: string): ReturnType<typeof inputRequired.createMessage> =>
  inputRequired.createMessage({ messages: [{ role: 'user', content: { type: 'text', text } }], maxTokens: 100 })

function capabilitiesOf(ctx: ServerContext): Readonly<Record<string, unknown>> {
  const envelope = ctx.mcpReq.envelope as Readonly<Record<string, unknown>> | undefined
  return (envelope?.[CLIENT_CAPABILITIES_META_KEY] ?? {}) as Readonly<Record<string, unknown>>
}

/** Whether the client answered this question in the shape it was asked in. */
function has(ctx: ServerContext, key: string, kind: string, field?: string): boolean {
  const view = inputResponse(ctx.mcpReq.inputResponses, key)
  if (view.kind !== kind) return false
  if (view.kind !== 'elicit' || field === undefined) return true
  return view.action !== 'accept' || (view.content !== undefined && field in view.content)
}

function answered(ctx: ServerContext, key: string): string {
  return JSON.stringify(ctx.mcpReq.inputResponses?.[key])
}

/** Asks until it is answered. */
function asking(key: string, kind: string, request: Parameters<typeof inputRequired>[0], field?: string): Run {
  return async (ctx) => (has(ctx, key, kind, field) ? said(`Thank you: ${answered(ctx, key)}`) : inputRequired(request))
}

const nameOf = (ctx: ServerContext): string => {
  const view = inputResponse(ctx.mcpReq.inputResponses, 'user_name')
  return view.kind === 'elicit' ? JSON.stringify(view.content?.['name'] ?? '') : ''
}

const ELICITED_PRIMITIVES = {
  name: { type: 'string', default: 'John Doe' },
  age: { type: 'integer', default: 30 },
  score: { type: 'number', default: 95.5 },
  status: { type: 'string', enum: ['active', 'inactive', 'pending'], default: 'active' },
  verified: { type: 'boolean', default: true },
}
const TITLED = ['First', 'Second', 'Third'].map((title, index) => ({ const: `value${index + 1}`, title }))
const OPTIONS = ['option1', 'option2', 'option3']
const ELICITED_ENUMS = {
  untitledSingle: { type: 'string', enum: OPTIONS },
  titledSingle: { type: 'string', oneOf: TITLED },
  legacyEnum: { type: 'string', enum: ['opt1', 'opt2', 'opt3'], enumNames: ['One', 'Two', 'Three'] },
  untitledMulti: { type: 'array', items: { type: 'string', enum: OPTIONS } },
  titledMulti: { type: 'array', items: { anyOf: TITLED } },
}

/** A form in the caller's own session, as in the 2025 era. */
async function elicited(ctx: ServerContext, message: string, properties: object, required?: string[]) {
  const requestedSchema = { type: 'object', properties, ...(required !== undefined && { required }) }
  const asked = { mode: 'form', message, requestedSchema } as Parameters<typeof ctx.mcpReq.elicitInput>[0]
  const { action, content } = await ctx.mcpReq.elicitInput(asked)
  return said(`Elicitation completed: action=${action}, content=${JSON.stringify(content ?? {})}`)
}

const pixel = { type: 'image', data: PNG, mimeType: 'image/png' } as const

function toolsOf(server: Server): Readonly<Record<string, FixtureTool>> {
  return {
    test_simple_text: { run: always(said('This is a simple text response for testing.')) },
    test_image_content: { run: always({ content: [pixel] }) },
    test_audio_content: { run: always({ content: [{ type: 'audio', data: WAV, mimeType: 'audio/wav' }] }) },
    test_embedded_resource: { run: always({ content: [embedded('test://embedded-resource', 'Embedded.')] }) },
    test_multiple_content_types: {
      run: always({ content: [...said('Several.').content, pixel, embedded('test://mixed-content-resource', '{}')] }),
    },
    test_error_handling: {
      run: always({ isError: true, ...said('This tool intentionally returns an error for testing') }),
    },
    test_tool_with_logging: {
      async run(ctx) {
        for (const data of ['Tool execution started', 'Tool processing data', 'Tool execution completed']) {
          await server.sendLoggingMessage({ level: 'info', data }, ctx.sessionId)
        }
        return said('Logged.')
      },
    },
    test_logging_tool: {
      async run(ctx) {
        await ctx.mcpReq.log('info', 'Only for those who asked for it.')
        return said('Logged.')
      },
    },
    test_tool_with_progress: {
      async run(ctx) {
        const progressToken = ctx.mcpReq._meta?.progressToken
        for (const progress of progressToken === undefined ? [] : [0, 50, 100]) {
          const params = { progressToken, progress, total: 100 }
          await ctx.mcpReq.notify({ method: 'notifications/progress', params })
        }
        return said('Done.')
      },
    },
    test_sampling: {
      inputSchema: { type: 'object', properties: { prompt: { type: 'string' } }, required: ['prompt'] },
      async run(ctx, { prompt }) {
        const { content } = await ctx.mcpReq.requestSampling({
          messages: [{ role: 'user', content: { type: 'text', text: String(prompt) } }],
          maxTokens: 100,
        })
        return said(`LLM response: ${JSON.stringify(content)}`)
      },
    },
    test_elicitation: {
      inputSchema: { type: 'object', properties: { message: { type: 'string' } }, required: ['message'] },
      run: (ctx, { message }) =>
        elicited(
          ctx,
          String(message),
          {
            username: { type: 'string', description: "User's response" },
            email: { type: 'string', description: "User's email address" },
          },
          ['username', 'email'],
        ),
    },
    test_elicitation_sep1034_defaults: { run: (ctx) => elicited(ctx, 'Defaults.', ELICITED_PRIMITIVES) },
    test_elicitation_sep1330_enums: { run: (ctx) => elicited(ctx, 'Choices.', ELICITED_ENUMS) },
    test_missing_capability: {
      async run(ctx) {
        if ('sampling' in capabilitiesOf(ctx)) return said('It can.')
        throw new MissingRequiredClientCapabilityError({ requiredCapabilities: { sampling: {} } })
      },
    },
    test_streaming_elicitation: {
      run: asking('confirm', 'elicit', { inputRequests: { confirm: asks('Go on?', 'ok', 'boolean') } }, 'ok'),
    },
    test_input_required_result_elicitation: {
      async run(ctx) {
        if (has(ctx, 'user_name', 'elicit', 'name')) return said(`Hello, ${nameOf(ctx)}!`)
        return inputRequired({ inputRequests: { user_name: asks('What is your name?', 'name') } })
      },
    },
    test_input_required_result_sampling: {
      run: asking('capital_question', 'sampling', {
        inputRequests: { capital_question: samples('What is the capital of France?') },
      }),
    },
    test_input_required_result_list_roots: {
      run: asking('client_roots', 'roots', { inputRequests: { client_roots: inputRequired.listRoots() } }),
    },
    test_input_required_result_request_state: {
      async run(ctx) {
        if (has(ctx, 'confirm', 'elicit', 'ok') && ctx.mcpReq.requestState() === 'asked') return said('state-ok')
        const inputRequests = { confirm: asks('Please confirm', 'ok', 'boolean') }
        return inputRequired({ inputRequests, requestState: signed('asked') })
      },
    },
    test_input_required_result_tampered_state: {
      run: asking('confirm', 'elicit', {
        inputRequests: { confirm: asks('Please confirm', 'ok', 'boolean') },
        requestState: signed('asked'),
      }),
    },
    test_input_required_result_multiple_inputs: {
      async run(ctx) {
        const isComplete =
          has(ctx, 'user_name', 'elicit') && has(ctx, 'greeting', 'sampling') && has(ctx, 'client_roots', 'roots')
        if (isComplete) return said(`${answered(ctx, 'greeting')} ${nameOf(ctx)}`)
        return inputRequired({
          inputRequests: {
            user_name: asks('What is your name?', 'name'),
            greeting: samples('Generate a greeting'),
            client_roots: inputRequired.listRoots(),
          },
          requestState: signed('asked'),
        })
      },
    },
    test_input_required_result_multi_round: {
      async run(ctx) {
        if (has(ctx, 'step2', 'elicit') && ctx.mcpReq.requestState() === 'second') return said('Both known.')
        const isSecond = has(ctx, 'step1', 'elicit') && ctx.mcpReq.requestState() === 'first'
        return isSecond
          ? inputRequired({
              inputRequests: { step2: asks('Step 2: What is your favorite color?', 'color') },
              requestState: signed('second'),
            })
          : inputRequired({
              inputRequests: { step1: asks('Step 1: What is your name?', 'name') },
              requestState: signed('first'),
            })
      },
    },
    test_input_required_result_capabilities: {
      async run(ctx) {
        const can = capabilitiesOf(ctx)
        return inputRequired({
          inputRequests: {
            ...('sampling' in can && { sampled: samples('Anything.') }),
            ...('elicitation' in can && { elicited: asks('Anything?', 'any') }),
          },
        })
      },
    },
    test_custom_header: {
      inputSchema: { type: 'object', properties: { region: { type: 'string', 'x-mcp-header': 'Region' } } },
      run: async (_, { region }) => said(`In ${String(region)}.`),
    },
    json_schema_2020_12_tool: { run: always(said('Its schema is what matters.')), inputSchema: RICH_SCHEMA },
  }
}

const NOTHING = { type: 'object' } as const

/** Each keyword the suite looks for, once. */
const RICH_SCHEMA = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  type: 'object',
  $defs: {
    address: {
      $anchor: 'addressDef',
      type: 'object',
      properties: { street: { type: 'string' }, city: { type: 'string' } },
    },
  },
  properties: {
    name: { type: 'string' },
    address: { $ref: '#/$defs/address' },
    contactMethod: { type: 'string', enum: ['phone', 'email'] },
    phone: { type: 'string' },
    email: { type: 'string' },
  },
  allOf: [{ anyOf: [{ required: ['phone'] }, { required: ['email'] }] }],
  if: { properties: { contactMethod: { const: 'phone' } }, required: ['contactMethod'] },
  // JSON Schema calls it so; nothing ever waits for this object.
  // oxlint-disable-next-line unicorn/no-thenable
  then: { required: ['phone'] },
  else: { required: ['email'] },
  additionalProperties: false,
} satisfies FixtureTool['inputSchema']

function embedded(uri: string, text: string) {
  const mimeType = text === '{}' ? 'application/json' : 'text/plain'
  return { type: 'resource', resource: { uri, mimeType, text } } as const
}

const RESOURCES = [
  { uri: 'test://static-text', name: 'text', description: 'A text.', mimeType: 'text/plain' },
  { uri: 'test://static-binary', name: 'binary', description: 'A picture.', mimeType: 'image/png' },
  { uri: 'test://watched-resource', name: 'watched', description: 'To be listened to.', mimeType: 'text/plain' },
]

const ARGUMENTS: Readonly<Record<string, readonly string[]>> = {
  test_simple_prompt: [],
  test_prompt_with_arguments: ['arg1', 'arg2'],
  test_prompt_with_embedded_resource: ['resourceUri'],
  test_prompt_with_image: [],
  test_input_required_result_prompt: [],
}

function promptOf(name: string, args: Args, ctx: ServerContext): GetPromptResult | InputRequiredResult {
  const messages = (...content: GetPromptResult['messages'][number]['content'][]): GetPromptResult => ({
    messages: content.map((each) => ({ role: 'user', content: each })),
  })
  const text = (words: string) => ({ type: 'text', text: words }) as const
  switch (name) {
    case 'test_simple_prompt':
      return messages(text('This is a simple prompt for testing.'))
    case 'test_prompt_with_arguments':
      return messages(text(`Prompt with arguments: arg1='${String(args['arg1'])}', arg2='${String(args['arg2'])}'`))
    case 'test_prompt_with_embedded_resource':
      return messages(embedded(String(args['resourceUri']), 'Embedded.'), text('Look at this.'))
    case 'test_prompt_with_image':
      return messages(pixel, text('Look at this.'))
    case 'test_input_required_result_prompt':
      return has(ctx, 'user_context', 'elicit')
        ? messages(text(answered(ctx, 'user_context')))
        : inputRequired({ inputRequests: { user_context: asks('What context should the prompt use?', 'context') } })
    default:
      throw new ProtocolError(ProtocolErrorCode.InvalidParams, `There is no prompt ${name}.`)
  }
}

/** Makes the server; the door asks for a fresh one as it does for its own. */
export function conformanceServer(): Server {
  const server = new Server(
    { name: 'conformance-fixture', version: '1.0.0' },
    {
      capabilities: { tools: {}, resources: { subscribe: true }, prompts: {}, completions: {}, logging: {} },
      requestState: { verify },
    },
  )
  const tools = toolsOf(server)
  server.setRequestHandler('tools/list', () => ({
    tools: Object.entries(tools).map(([name, { inputSchema = NOTHING }]) => ({
      name,
      description: `The fixture ${name}.`,
      inputSchema,
    })),
  }))
  server.setRequestHandler('tools/call', async ({ params }, ctx) => {
    const tool = Object.hasOwn(tools, params.name) ? tools[params.name] : undefined
    if (tool === undefined) throw new ProtocolError(ProtocolErrorCode.InvalidParams, `There is no tool ${params.name}.`)
    return tool.run(ctx, params.arguments ?? {})
  })
  server.setRequestHandler('resources/list', () => ({ resources: RESOURCES }))
  server.setRequestHandler('resources/templates/list', () => ({
    resourceTemplates: [
      {
        uriTemplate: 'test://template/{id}/data',
        name: 'template',
        description: 'By id.',
        mimeType: 'application/json',
      },
    ],
  }))
  server.setRequestHandler('resources/read', ({ params: { uri } }) => {
    const [, id] = /^test:\/\/template\/([^/]+)\/data$/u.exec(uri) ?? []
    const data = { id, templateTest: true, data: `Data for ID: ${id}` }
    if (id !== undefined) return { contents: [{ uri, mimeType: 'application/json', text: JSON.stringify(data) }] }
    const found = RESOURCES.find((resource) => resource.uri === uri)
    if (found === undefined) throw new ResourceNotFoundError(uri)
    const { mimeType } = found
    const content =
      mimeType === 'image/png' ? { blob: PNG } : { text: 'This is the content of the static text resource.' }
    return { contents: [{ uri, mimeType, ...content }] }
  })
  server.setRequestHandler('prompts/list', () => ({
    prompts: Object.entries(ARGUMENTS).map(([name, names]) => ({
      name,
      description: `The fixture ${name}.`,
      arguments: names.map((each) => ({ name: each, required: true })),
    })),
  }))
  server.setRequestHandler('prompts/get', ({ params }, ctx) => promptOf(params.name, params.arguments ?? {}, ctx))
  server.setRequestHandler('completion/complete', () => ({ completion: { values: ['paris', 'park'] } }))
  return server
}
