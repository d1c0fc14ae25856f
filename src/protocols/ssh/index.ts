export { SSH_SETTINGS } from './options.ts'
export { createSsh } from './protocol.ts'
