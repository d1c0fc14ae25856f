/**
 * What policies may say about PostgreSQL, as data: the documentation and the validation of policies are made from it.
 *
 * How a statement becomes parts:
 * - each relation read is `sql.select` on `schema.name` with the columns read; RETURNING reads its target;
 * - as in PostgreSQL's own privileges, a write whose WHERE, SET or ON CONFLICT reads columns of its target has
 *   `sql.select` on those columns besides;
 * - a write is `sql.insert`, `sql.update` or `sql.delete` on its target with the columns written; MERGE is `sql.merge`
 *   and what its actions do; `ON CONFLICT DO UPDATE` is an insert and an update;
 * - what the catalog adds (cascades, triggers, defaults, policies) are parts with `via`;
 * - a statement we only know the kind of has the part of that kind, such as `sql.drop`, so that a rule can deny it by
 *   name and say why, **and** `sql.unknown`, so that no rule can allow it by that name alone.
 *
 * @packageDocumentation
 */
import type { ActionClass, AttributeSpec, Taxonomy, VerbSpec } from '../../core/action.ts'
import { READABLE_SETTINGS } from './settings.ts'

const columnsRead: AttributeSpec = {
  type: 'list(string)',
  summary: 'Columns the statement may read of it, sorted; every column where that is not certain.',
}
const columnsWritten: AttributeSpec = { type: 'list(string)', summary: 'Columns the statement assigns, sorted.' }
const hasWhere: AttributeSpec = {
  type: 'bool',
  summary:
    'Whether a WHERE (for MERGE: its ON) narrows it down everywhere it appears; one that is always true does not count.',
}
const locking: AttributeSpec = { type: 'bool', summary: 'Whether rows are locked (FOR UPDATE, FOR SHARE …).' }
const returning: AttributeSpec = { type: 'bool', summary: 'Whether a RETURNING clause shows rows of it.' }
const via: AttributeSpec = {
  type: 'string',
  summary:
    'Empty when the statement says it; otherwise what does: cascade, trigger, default, policy, view, operator, cast, type, attribute.',
}

const understood: readonly VerbSpec[] = [
  verb('sql.select', 'read', 'Reads a relation, or nothing at all.', {
    columns_read: columnsRead,
    has_where: hasWhere,
    locking,
    returning,
    via,
  }),
  verb('sql.insert', 'write', 'Adds rows.', { columns_written: columnsWritten, returning, via }),
  verb('sql.update', 'write', 'Changes rows.', {
    columns_read: columnsRead,
    columns_written: columnsWritten,
    has_where: hasWhere,
    returning,
    via,
  }),
  verb('sql.delete', 'write', 'Removes rows.', { columns_read: columnsRead, has_where: hasWhere, returning, via }),
  verb('sql.merge', 'write', 'Runs MERGE on a table; its actions are parts of their own.', {
    has_where: hasWhere,
    returning,
  }),
  verb('sql.lock', 'write', 'Locks rows of a relation that is read.', {}),
  verb('sql.call', 'exec', 'Runs a function that is not a harmless part of PostgreSQL.', {
    via,
    volatility: { type: 'string', summary: 'immutable, stable or volatile, as the catalog declares it.' },
    language: { type: 'string', summary: 'Language it is written in.' },
    security_definer: { type: 'bool', summary: 'Whether it runs with the rights of its owner.' },
    extension: { type: 'string', summary: 'Extension it belongs to, or empty.' },
  }),
  verb('sql.explain', 'read', 'Shows how the statement inside would run; that statement has its own parts.', {
    analyze: { type: 'bool', summary: 'Whether ANALYZE is mentioned, which runs the statement.' },
  }),
  verb('sql.show', 'session', 'Shows a setting; its name in lower case is the resource, `all` for SHOW ALL.', {}),
  verb('sql.monitor', 'admin', 'Reads a system catalog that shows data, sessions or credentials, such as pg_stats.', {
    columns_read: columnsRead,
    has_where: hasWhere,
    locking,
    returning,
    via,
  }),
  verb('sql.unknown', 'unknown', 'Something in the statement is not understood.', {
    reasons: { type: 'list(string)', summary: 'What was not understood, one sentence each.' },
  }),
]

/** Kinds of statements that are recognised by name only; each comes with `sql.unknown`. */
const recognised: readonly (readonly [name: string, actionClass: ActionClass, summary: string])[] = [
  ['sql.create', 'admin', 'Creates something: a table, view, function, role … SELECT INTO counts.'],
  ['sql.alter', 'admin', 'Alters or renames something.'],
  ['sql.drop', 'admin', 'Drops something.'],
  ['sql.truncate', 'admin', 'Empties tables.'],
  ['sql.grant', 'admin', 'Grants or revokes privileges or roles.'],
  ['sql.comment', 'admin', 'Comments on or labels something.'],
  ['sql.maintain', 'admin', 'Vacuums, analyzes, reindexes, clusters, refreshes, checkpoints.'],
  ['sql.copy', 'admin', 'Copies in or out.'],
  ['sql.do', 'exec', 'Runs an anonymous code block.'],
  ['sql.load', 'exec', 'Loads a library into the server.'],
  ['sql.set', 'session', 'Changes or resets settings, roles or constraints of the session.'],
  ['sql.begin', 'session', 'Starts a transaction.'],
  ['sql.commit', 'session', 'Ends a transaction, keeping it.'],
  ['sql.rollback', 'session', 'Ends a transaction or goes back to a savepoint.'],
  ['sql.savepoint', 'session', 'Sets or releases a savepoint.'],
  ['sql.discard', 'session', 'Discards state of the session.'],
  ['sql.prepare', 'session', 'Prepares, executes or deallocates a statement.'],
  ['sql.cursor', 'session', 'Declares, fetches from or closes a cursor.'],
  ['sql.notify', 'session', 'Sends or listens for notifications.'],
  ['sql.lock_table', 'write', 'Locks tables.'],
]

/** Verbs, attributes and bundles of PostgreSQL. */
export const taxonomy: Taxonomy = {
  protocol: 'postgres',
  prefix: 'sql',
  verbs: [...understood, ...recognised.map(([name, actionClass, summary]) => verb(name, actionClass, summary, {}))],
  actionAttributes: {
    statement: {
      type: 'string',
      summary:
        'select, insert, update, delete, merge, explain or show; unknown for anything else; empty without a statement.',
    },
    masking: {
      type: 'string',
      summary:
        'What stands behind the masks that hold for the caller: `enforced` (the backend role may not read the columns), `rewrite` or `none`.',
    },
    statement_count: { type: 'int', summary: 'How many statements the text holds.' },
    parameter_count: { type: 'int', summary: 'How many values were given for `$1` and so on.' },
  },
  bundles: {
    'sql.client': {
      summary:
        'What clients ask before they can work: the structure of the database, and settings that hold no secret.',
      grants: [
        { verb: 'sql.select', resources: ['-', 'pg_catalog.*', 'information_schema.*'] },
        { verb: 'sql.show', resources: READABLE_SETTINGS },
      ],
    },
  },
}

function verb(
  name: string,
  actionClass: ActionClass,
  summary: string,
  attributes: Readonly<Record<string, AttributeSpec>>,
): VerbSpec {
  return { verb: name, class: actionClass, summary, attributes }
}

/** The verb a statement type is recognised by, when it is not understood any further. */
export function recognisedVerb(type: string): string | undefined {
  const exact = BY_TYPE.get(type)
  if (exact !== undefined) return exact
  if (type.startsWith('Alter') || type === 'RenameStmt') return 'sql.alter'
  if (type.startsWith('Drop')) return 'sql.drop'
  if (type.startsWith('Create')) return 'sql.create'
  return undefined
}

const BY_TYPE = new Map([
  ['ViewStmt', 'sql.create'],
  ['IndexStmt', 'sql.create'],
  ['RuleStmt', 'sql.create'],
  ['DefineStmt', 'sql.create'],
  ['CompositeTypeStmt', 'sql.create'],
  ['CreatedbStmt', 'sql.create'],
  ['ImportForeignSchemaStmt', 'sql.create'],
  ['DropdbStmt', 'sql.drop'],
  ['ReassignOwnedStmt', 'sql.alter'],
  ['ReplicaIdentityStmt', 'sql.alter'],
  ['TruncateStmt', 'sql.truncate'],
  ['GrantStmt', 'sql.grant'],
  ['GrantRoleStmt', 'sql.grant'],
  ['AlterDefaultPrivilegesStmt', 'sql.grant'],
  ['CommentStmt', 'sql.comment'],
  ['SecLabelStmt', 'sql.comment'],
  ['VacuumStmt', 'sql.maintain'],
  ['ClusterStmt', 'sql.maintain'],
  ['ReindexStmt', 'sql.maintain'],
  ['RefreshMatViewStmt', 'sql.maintain'],
  ['CheckPointStmt', 'sql.maintain'],
  ['CopyStmt', 'sql.copy'],
  ['DoStmt', 'sql.do'],
  ['LoadStmt', 'sql.load'],
  ['CallStmt', 'sql.call'],
  ['VariableSetStmt', 'sql.set'],
  ['ConstraintsSetStmt', 'sql.set'],
  ['DiscardStmt', 'sql.discard'],
  ['PrepareStmt', 'sql.prepare'],
  ['ExecuteStmt', 'sql.prepare'],
  ['DeallocateStmt', 'sql.prepare'],
  ['DeclareCursorStmt', 'sql.cursor'],
  ['FetchStmt', 'sql.cursor'],
  ['ClosePortalStmt', 'sql.cursor'],
  ['NotifyStmt', 'sql.notify'],
  ['ListenStmt', 'sql.notify'],
  ['UnlistenStmt', 'sql.notify'],
  ['LockStmt', 'sql.lock_table'],
])

/** The verb of a transaction statement, by the parser's word for it. */
export function transactionVerb(kind: string): string {
  switch (kind) {
    case 'TRANS_STMT_BEGIN':
    case 'TRANS_STMT_START':
      return 'sql.begin'
    case 'TRANS_STMT_COMMIT':
    case 'TRANS_STMT_COMMIT_PREPARED':
    case 'TRANS_STMT_PREPARE':
      return 'sql.commit'
    case 'TRANS_STMT_SAVEPOINT':
    case 'TRANS_STMT_RELEASE':
      return 'sql.savepoint'
    default:
      return 'sql.rollback'
  }
}
