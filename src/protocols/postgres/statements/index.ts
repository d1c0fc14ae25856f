/**
 * Every kind of statement of PostgreSQL that is no query, with what understands it and what masks make of it.
 *
 * A kind that is missing here is not understood (C4), whatever else it holds.
 *
 * @packageDocumentation
 */
import type { Ast } from '../ast.ts'
import type { Catalog } from '../catalog.ts'
import type { SessionView } from '../session.ts'
import * as change from './change.ts'
import * as block from './code-block.ts'
import { copy } from './copy.ts'
import { Draft, type Handler, type UnderMasks } from './draft.ts'
import * as grant from './grant.ts'
import * as maintain from './maintain.ts'
import * as make from './make.ts'
import * as prepared from './prepared.ts'
import * as remove from './remove.ts'
import * as server from './server.ts'
import * as setting from './setting.ts'
import * as transaction from './transaction.ts'

type Kind = readonly [handler: Handler, underMasks: UnderMasks]

const KINDS: Readonly<Record<string, Kind>> = {
  // Queries behind something else
  CopyStmt: [copy, 'query'],
  CreateTableAsStmt: [make.createTableAs, 'unmasked'],
  DeclareCursorStmt: [prepared.declareCursor, 'query'],
  FetchStmt: [prepared.fetch, 'free'],
  ClosePortalStmt: [prepared.closeCursor, 'free'],
  PrepareStmt: [prepared.prepare, 'query'],
  ExecuteStmt: [prepared.execute, 'free'],
  DeallocateStmt: [prepared.deallocate, 'free'],
  ViewStmt: [make.createView, 'unmasked'],
  // Code
  CallStmt: [block.call, 'query'],
  DoStmt: [block.doBlock, 'refused'],
  LoadStmt: [server.load, 'refused'],
  // Sessions and transactions
  TransactionStmt: [transaction.transaction, 'free'],
  VariableSetStmt: [setting.setVariable, 'free'],
  ConstraintsSetStmt: [setting.setConstraints, 'free'],
  DiscardStmt: [setting.discard, 'free'],
  LockStmt: [transaction.lock, 'free'],
  ListenStmt: [transaction.listen, 'free'],
  UnlistenStmt: [transaction.unlisten, 'free'],
  NotifyStmt: [transaction.notify, 'free'],
  // Tables and what belongs to them
  CreateStmt: [make.createTable, 'unmasked'],
  CreateForeignTableStmt: [make.createTable, 'unmasked'],
  AlterTableStmt: [change.alterTable, 'unmasked'],
  AlterTableMoveAllStmt: [change.alterTableSpaceAll, 'refused'],
  IndexStmt: [make.createIndex, 'unmasked'],
  CreateSeqStmt: [make.createSequence, 'unmasked'],
  AlterSeqStmt: [change.alterSequence, 'unmasked'],
  CreateStatsStmt: [make.createStatistics, 'unmasked'],
  AlterStatsStmt: [change.alterNamed('statistics', 'defnames'), 'unmasked'],
  CreateTrigStmt: [make.createTrigger, 'refused'],
  RuleStmt: [make.createRule, 'refused'],
  TruncateStmt: [remove.truncate, 'free'],
  // Other objects
  CreateSchemaStmt: [make.createSchema, 'unmasked'],
  CreateFunctionStmt: [make.createFunction, 'refused'],
  AlterFunctionStmt: [change.alterFunction, 'refused'],
  DefineStmt: [make.define, 'refused'],
  CreateDomainStmt: [make.createDomain, 'refused'],
  AlterDomainStmt: [change.alterNamed('domain', 'typeName'), 'refused'],
  CompositeTypeStmt: [make.createType, 'refused'],
  CreateEnumStmt: [make.createType, 'unmasked'],
  AlterEnumStmt: [change.alterNamed('type', 'typeName'), 'refused'],
  CreateRangeStmt: [make.createRange, 'refused'],
  AlterTypeStmt: [change.alterNamed('type', 'typeName'), 'refused'],
  AlterCollationStmt: [change.alterNamed('collation', 'collname'), 'refused'],
  CreateCastStmt: [make.createCast, 'refused'],
  CreateTransformStmt: [make.createTransform, 'refused'],
  CreateConversionStmt: [make.createConversion, 'refused'],
  AlterOperatorStmt: [change.alterNamed('operator', 'opername'), 'refused'],
  CreateOpClassStmt: [make.createOperatorClass, 'refused'],
  CreateOpFamilyStmt: [make.createOperatorClass, 'refused'],
  AlterOpFamilyStmt: [change.alterOperatorFamily, 'refused'],
  CreatePLangStmt: [make.createLanguage, 'refused'],
  CreateAmStmt: [make.createAccessMethod, 'refused'],
  AlterTSDictionaryStmt: [change.alterNamed('text search dictionary', 'dictname'), 'refused'],
  AlterTSConfigurationStmt: [change.alterNamed('text search configuration', 'cfgname'), 'refused'],
  RenameStmt: [change.rename, 'unmasked'],
  AlterObjectSchemaStmt: [change.changeSchema, 'unmasked'],
  AlterObjectDependsStmt: [change.dependsOn, 'refused'],
  CommentStmt: [change.comment, 'free'],
  DropStmt: [remove.drop, 'unmasked'],
  // Who may do what
  GrantStmt: [grant.grant, 'refused'],
  GrantRoleStmt: [grant.grantRole, 'refused'],
  AlterDefaultPrivilegesStmt: [grant.defaultPrivileges, 'refused'],
  CreateRoleStmt: [grant.createRole, 'refused'],
  AlterRoleStmt: [grant.alterRole, 'refused'],
  AlterRoleSetStmt: [grant.alterRoleSettings, 'refused'],
  DropRoleStmt: [grant.dropRole, 'refused'],
  AlterOwnerStmt: [change.changeOwner, 'refused'],
  ReassignOwnedStmt: [grant.reassignOwned, 'refused'],
  DropOwnedStmt: [remove.dropOwned, 'refused'],
  CreatePolicyStmt: [make.createPolicy, 'refused'],
  AlterPolicyStmt: [change.alterPolicy, 'refused'],
  SecLabelStmt: [change.securityLabel, 'refused'],
  // Maintenance
  VacuumStmt: [maintain.vacuum, 'unmasked'],
  ReindexStmt: [maintain.reindex, 'unmasked'],
  ClusterStmt: [maintain.cluster, 'unmasked'],
  RefreshMatViewStmt: [maintain.refresh, 'unmasked'],
  CheckPointStmt: [maintain.checkpoint, 'free'],
  // The server and others
  AlterSystemStmt: [setting.alterSystem, 'refused'],
  CreatedbStmt: [server.createDatabase, 'refused'],
  AlterDatabaseStmt: [server.alterDatabase, 'refused'],
  AlterDatabaseSetStmt: [server.alterDatabase, 'refused'],
  AlterDatabaseRefreshCollStmt: [server.alterDatabase, 'refused'],
  DropdbStmt: [server.dropDatabase, 'refused'],
  CreateTableSpaceStmt: [server.createTablespace, 'refused'],
  AlterTableSpaceOptionsStmt: [server.alterTablespace, 'refused'],
  DropTableSpaceStmt: [server.dropTablespace, 'refused'],
  CreateExtensionStmt: [make.createExtension, 'refused'],
  AlterExtensionStmt: [change.alterExtension, 'refused'],
  AlterExtensionContentsStmt: [change.alterExtension, 'refused'],
  CreateEventTrigStmt: [make.createEventTrigger, 'refused'],
  AlterEventTrigStmt: [server.alterEventTrigger, 'refused'],
  CreatePublicationStmt: [server.createPublication, 'refused'],
  AlterPublicationStmt: [server.alterPublication, 'refused'],
  CreateSubscriptionStmt: [server.createSubscription, 'refused'],
  AlterSubscriptionStmt: [server.alterSubscription, 'refused'],
  DropSubscriptionStmt: [server.dropSubscription, 'refused'],
  CreateFdwStmt: [server.createForeignDataWrapper, 'refused'],
  AlterFdwStmt: [server.alterForeignDataWrapper, 'refused'],
  CreateForeignServerStmt: [server.createForeignServer, 'refused'],
  AlterForeignServerStmt: [server.alterForeignServer, 'refused'],
  CreateUserMappingStmt: [server.createUserMapping, 'refused'],
  AlterUserMappingStmt: [server.alterUserMapping, 'refused'],
  DropUserMappingStmt: [server.dropUserMapping, 'refused'],
  ImportForeignSchemaStmt: [server.importSchema, 'refused'],
}

const kinds = new Map(Object.entries(KINDS))

/** Types of statements that are understood without being queries. */
export const UTILITY_TYPES: readonly string[] = [...kinds.keys()]

/**
 * Kinds that fire no event trigger (PostgreSQL manual, chapter 40): no DDL, or of objects all databases share. Whatever is
 * not named counts as firing all of them.
 */
const SILENT = new Set(
  [
    'Transaction VariableSet Discard ConstraintsSet Prepare Execute Deallocate DeclareCursor Fetch ClosePortal Copy Lock',
    'Notify Listen Unlisten Truncate Vacuum CheckPoint Load Do Call AlterSystem CreateRole AlterRole AlterRoleSet DropRole',
    'GrantRole Createdb AlterDatabase AlterDatabaseSet AlterDatabaseRefreshColl Dropdb CreateTableSpace DropTableSpace',
    'AlterTableSpaceOptions',
  ].flatMap((names) => names.split(' ').map((name) => `${name}Stmt`)),
)

/** What a statement does besides what is in it; undefined for a kind that is not known. */
export function understand(catalog: Catalog, session: SessionView, type: string, fields: Ast): Draft | undefined {
  const kind = kinds.get(type)
  if (kind === undefined) return undefined
  const [handler, underMasks] = kind
  const draft = new Draft(catalog, session, underMasks, inside)
  handler(draft, fields)
  if (!SILENT.has(type)) draft.fires()
  return draft
}

/** The same of a statement inside another one; the stricter verdict of the two counts. */
function inside(draft: Draft, type: string, fields: Ast): void {
  const kind = kinds.get(type)
  if (kind === undefined) {
    draft.unknown(`${type} is not understood`)
    return
  }
  const [handler, underMasks] = kind
  if (underMasks === 'refused') draft.underMasks = 'refused'
  handler(draft, fields)
}
