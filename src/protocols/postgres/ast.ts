/**
 * The parse tree as data, and the list of what we understand of it.
 *
 * Every node type and every field the planner knows stands in {@link GRAMMAR}. A node or field that is not there makes
 * the statement not understood (C4), whatever else it holds: a newer grammar can add nothing behind our back.
 *
 * @packageDocumentation
 */

/** A node's fields as the parser gives them. Fields that hold a default (0, false, "") are absent. */
export type Ast = Readonly<Record<string, unknown>>

/**
 * How a field is to be walked: `leaf` (a scalar or an enum word), `node` (one wrapped node), `nodes` (a list of wrapped
 * nodes), or the name of the type of a field that the parser gives bare, without its wrapper. `DeleteStmt.relation` is
 * such a field; a walk that only looks for `{RangeVar: …}` would miss the table that loses its rows.
 */
type FieldKind = 'leaf' | 'node' | 'nodes' | { readonly bare: string }

const leaf = 'leaf'
const node = 'node'
const nodes = 'nodes'
const bare = (type: string): FieldKind => ({ bare: type })

/** What we understand, for the statements we plan. Statement types that are missing are not understood on purpose. */
export const GRAMMAR: Readonly<Record<string, Readonly<Record<string, FieldKind>>>> = {
  // Statements
  SelectStmt: {
    distinctClause: nodes,
    targetList: nodes,
    fromClause: nodes,
    whereClause: node,
    groupClause: nodes,
    groupDistinct: leaf,
    havingClause: node,
    windowClause: nodes,
    valuesLists: nodes,
    sortClause: nodes,
    limitOffset: node,
    limitCount: node,
    limitOption: leaf,
    lockingClause: nodes,
    withClause: bare('WithClause'),
    op: leaf,
    all: leaf,
    larg: bare('SelectStmt'),
    rarg: bare('SelectStmt'),
  },
  InsertStmt: {
    relation: bare('RangeVar'),
    cols: nodes,
    selectStmt: node,
    onConflictClause: bare('OnConflictClause'),
    returningClause: bare('ReturningClause'),
    withClause: bare('WithClause'),
    override: leaf,
  },
  UpdateStmt: {
    relation: bare('RangeVar'),
    targetList: nodes,
    whereClause: node,
    fromClause: nodes,
    returningClause: bare('ReturningClause'),
    withClause: bare('WithClause'),
  },
  DeleteStmt: {
    relation: bare('RangeVar'),
    usingClause: nodes,
    whereClause: node,
    returningClause: bare('ReturningClause'),
    withClause: bare('WithClause'),
  },
  MergeStmt: {
    relation: bare('RangeVar'),
    sourceRelation: node,
    joinCondition: node,
    mergeWhenClauses: nodes,
    returningClause: bare('ReturningClause'),
    withClause: bare('WithClause'),
  },
  ExplainStmt: { query: node, options: nodes },
  VariableShowStmt: { name: leaf },
  // Clauses
  WithClause: { ctes: nodes, recursive: leaf, location: leaf },
  CommonTableExpr: {
    ctename: leaf,
    aliascolnames: nodes,
    ctematerialized: leaf,
    ctequery: node,
    search_clause: bare('CTESearchClause'),
    cycle_clause: bare('CTECycleClause'),
    location: leaf,
  },
  CTESearchClause: { search_col_list: nodes, search_breadth_first: leaf, search_seq_column: leaf, location: leaf },
  CTECycleClause: {
    cycle_col_list: nodes,
    cycle_mark_column: leaf,
    cycle_mark_value: node,
    cycle_mark_default: node,
    cycle_path_column: leaf,
    location: leaf,
  },
  OnConflictClause: {
    action: leaf,
    infer: bare('InferClause'),
    targetList: nodes,
    whereClause: node,
    location: leaf,
  },
  InferClause: { indexElems: nodes, whereClause: node, conname: leaf, location: leaf },
  IndexElem: { name: leaf, expr: node, collation: nodes, ordering: leaf, nulls_ordering: leaf },
  ReturningClause: { options: nodes, exprs: nodes },
  ReturningOption: { option: leaf, value: leaf, location: leaf },
  MergeWhenClause: {
    matchKind: leaf,
    commandType: leaf,
    override: leaf,
    condition: node,
    targetList: nodes,
    values: nodes,
  },
  ResTarget: { name: leaf, indirection: nodes, val: node, location: leaf },
  MultiAssignRef: { source: node, colno: leaf, ncolumns: leaf },
  SetToDefault: { location: leaf },
  SortBy: { node: node, sortby_dir: leaf, sortby_nulls: leaf, useOp: nodes, location: leaf },
  GroupingSet: { kind: leaf, content: nodes, location: leaf },
  WindowDef: {
    name: leaf,
    refname: leaf,
    partitionClause: nodes,
    orderClause: nodes,
    frameOptions: leaf,
    startOffset: node,
    endOffset: node,
    location: leaf,
  },
  LockingClause: { lockedRels: nodes, strength: leaf, waitPolicy: leaf },
  DefElem: { defname: leaf, arg: node, defaction: leaf, location: leaf },
  // FROM
  RangeVar: {
    catalogname: leaf,
    schemaname: leaf,
    relname: leaf,
    inh: leaf,
    relpersistence: leaf,
    alias: bare('Alias'),
    location: leaf,
  },
  Alias: { aliasname: leaf, colnames: nodes },
  JoinExpr: {
    jointype: leaf,
    isNatural: leaf,
    larg: node,
    rarg: node,
    usingClause: nodes,
    join_using_alias: bare('Alias'),
    quals: node,
    alias: bare('Alias'),
  },
  RangeSubselect: { lateral: leaf, subquery: node, alias: bare('Alias') },
  RangeFunction: {
    lateral: leaf,
    ordinality: leaf,
    is_rowsfrom: leaf,
    functions: nodes,
    alias: bare('Alias'),
    coldeflist: nodes,
  },
  RangeTableSample: { relation: node, method: nodes, args: nodes, repeatable: node, location: leaf },
  RangeTableFunc: {
    lateral: leaf,
    docexpr: node,
    rowexpr: node,
    namespaces: nodes,
    columns: nodes,
    alias: bare('Alias'),
    location: leaf,
  },
  RangeTableFuncCol: {
    colname: leaf,
    typeName: bare('TypeName'),
    for_ordinality: leaf,
    is_not_null: leaf,
    colexpr: node,
    coldefexpr: node,
    location: leaf,
  },
  ColumnDef: {
    colname: leaf,
    typeName: bare('TypeName'),
    is_local: leaf,
    collClause: bare('CollateClause'),
    location: leaf,
  },
  JsonTable: {
    context_item: bare('JsonValueExpr'),
    pathspec: bare('JsonTablePathSpec'),
    passing: nodes,
    columns: nodes,
    on_error: bare('JsonBehavior'),
    alias: bare('Alias'),
    lateral: leaf,
    location: leaf,
  },
  JsonTablePathSpec: { string: node, name: leaf, name_location: leaf, location: leaf },
  JsonTableColumn: {
    coltype: leaf,
    name: leaf,
    typeName: bare('TypeName'),
    pathspec: bare('JsonTablePathSpec'),
    format: leaf,
    wrapper: leaf,
    quotes: leaf,
    columns: nodes,
    on_empty: bare('JsonBehavior'),
    on_error: bare('JsonBehavior'),
    location: leaf,
  },
  // Expressions
  ColumnRef: { fields: nodes, location: leaf },
  ParamRef: { number: leaf, location: leaf },
  A_Const: { ival: leaf, fval: leaf, boolval: leaf, sval: leaf, bsval: leaf, isnull: leaf, location: leaf },
  A_Star: {},
  A_Indices: { is_slice: leaf, lidx: node, uidx: node },
  A_Indirection: { arg: node, indirection: nodes },
  A_ArrayExpr: { elements: nodes, list_start: leaf, list_end: leaf, location: leaf },
  A_Expr: {
    kind: leaf,
    name: nodes,
    lexpr: node,
    rexpr: node,
    rexpr_list_start: leaf,
    rexpr_list_end: leaf,
    location: leaf,
  },
  BoolExpr: { boolop: leaf, args: nodes, location: leaf },
  TypeCast: { arg: node, typeName: bare('TypeName'), location: leaf },
  TypeName: {
    names: nodes,
    typmods: nodes,
    typemod: leaf,
    arrayBounds: nodes,
    location: leaf,
  },
  CollateClause: { arg: node, collname: nodes, location: leaf },
  FuncCall: {
    funcname: nodes,
    args: nodes,
    agg_order: nodes,
    agg_filter: node,
    over: bare('WindowDef'),
    agg_within_group: leaf,
    agg_star: leaf,
    agg_distinct: leaf,
    func_variadic: leaf,
    funcformat: leaf,
    location: leaf,
  },
  NamedArgExpr: { arg: node, name: leaf, argnumber: leaf, location: leaf },
  SubLink: { subLinkType: leaf, testexpr: node, operName: nodes, subselect: node, location: leaf },
  CaseExpr: { arg: node, args: nodes, defresult: node, location: leaf },
  CaseWhen: { expr: node, result: node, location: leaf },
  CoalesceExpr: { args: nodes, location: leaf },
  MinMaxExpr: { op: leaf, args: nodes, location: leaf },
  NullTest: { arg: node, nulltesttype: leaf, location: leaf },
  BooleanTest: { arg: node, booltesttype: leaf, location: leaf },
  RowExpr: { args: nodes, row_format: leaf, colnames: nodes, location: leaf },
  SQLValueFunction: { op: leaf, typmod: leaf, location: leaf },
  GroupingFunc: { args: nodes, location: leaf },
  MergeSupportFunc: { msftype: leaf, location: leaf },
  XmlExpr: {
    op: leaf,
    name: leaf,
    named_args: nodes,
    args: nodes,
    xmloption: leaf,
    indent: leaf,
    location: leaf,
  },
  XmlSerialize: { xmloption: leaf, expr: node, typeName: bare('TypeName'), indent: leaf, location: leaf },
  JsonValueExpr: { raw_expr: node, format: leaf },
  JsonArgument: { val: bare('JsonValueExpr'), name: leaf },
  JsonOutput: { typeName: bare('TypeName'), returning: leaf },
  JsonBehavior: { btype: leaf, expr: node, location: leaf },
  JsonKeyValue: { key: node, value: bare('JsonValueExpr') },
  JsonIsPredicate: { expr: node, format: leaf, item_type: leaf, unique_keys: leaf, location: leaf },
  JsonFuncExpr: {
    op: leaf,
    context_item: bare('JsonValueExpr'),
    pathspec: node,
    passing: nodes,
    output: bare('JsonOutput'),
    on_empty: bare('JsonBehavior'),
    on_error: bare('JsonBehavior'),
    wrapper: leaf,
    quotes: leaf,
    location: leaf,
  },
  JsonParseExpr: { expr: bare('JsonValueExpr'), output: bare('JsonOutput'), unique_keys: leaf, location: leaf },
  JsonScalarExpr: { expr: node, output: bare('JsonOutput'), location: leaf },
  JsonSerializeExpr: { expr: bare('JsonValueExpr'), output: bare('JsonOutput'), location: leaf },
  JsonObjectConstructor: {
    exprs: nodes,
    output: bare('JsonOutput'),
    absent_on_null: leaf,
    unique: leaf,
    location: leaf,
  },
  JsonArrayConstructor: { exprs: nodes, output: bare('JsonOutput'), absent_on_null: leaf, location: leaf },
  JsonArrayQueryConstructor: {
    query: node,
    output: bare('JsonOutput'),
    format: leaf,
    absent_on_null: leaf,
    location: leaf,
  },
  JsonAggConstructor: {
    output: bare('JsonOutput'),
    agg_filter: node,
    agg_order: nodes,
    over: bare('WindowDef'),
    location: leaf,
  },
  JsonObjectAgg: {
    constructor: bare('JsonAggConstructor'),
    arg: bare('JsonKeyValue'),
    absent_on_null: leaf,
    unique: leaf,
  },
  JsonArrayAgg: { constructor: bare('JsonAggConstructor'), arg: bare('JsonValueExpr'), absent_on_null: leaf },
  // Values inside lists
  String: { sval: leaf },
  Integer: { ival: leaf },
  Float: { fval: leaf },
  Boolean: { boolval: leaf },
  List: { items: nodes },
}

/** The one key of a wrapped node, and what it wraps. `{}` is the parser's null. */
export function unwrap(wrapped: unknown): { readonly type: string; readonly fields: Ast } | undefined {
  if (typeof wrapped !== 'object' || wrapped === null) return undefined
  for (const type in wrapped) {
    const fields = (wrapped as Record<string, unknown>)[type]
    return { type, fields: typeof fields === 'object' && fields !== null ? (fields as Ast) : {} }
  }
  return undefined
}

/** Calls `visit` for every child node of a node, wrapped or bare, in the order of the parse tree's fields. */
export function eachChild(type: string, fields: Ast, visit: (type: string, fields: Ast) => void): void {
  const grammar = fieldsOf(type)
  if (grammar === undefined) return
  for (const name in fields) {
    const kind = grammar.get(name)
    if (kind === undefined || kind === 'leaf') continue
    const value = fields[name]
    if (kind === 'node') visitWrapped(value, visit)
    else if (kind === 'nodes') for (const item of asList(value)) visitWrapped(item, visit)
    else if (typeof value === 'object' && value !== null) visit(kind.bare, value as Ast)
  }
}

/** Node types and fields anywhere in the tree that {@link GRAMMAR} does not know, as `Type` or `Type.field`. */
export function unknownShapes(type: string, fields: Ast): ReadonlySet<string> {
  const found = new Set<string>()
  const visit = (nodeType: string, node: Ast): void => {
    const grammar = fieldsOf(nodeType)
    if (grammar === undefined) {
      found.add(nodeType)
      return
    }
    for (const name in node) if (!grammar.has(name)) found.add(`${nodeType}.${name}`)
    eachChild(nodeType, node, visit)
  }
  visit(type, fields)
  return found
}

/** A list field, empty when absent. */
export function asList(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}

/** Words of a list of `String` nodes, such as a qualified name; undefined when it holds anything else. */
export function words(list: unknown): readonly string[] | undefined {
  const found: string[] = []
  for (const item of asList(list)) {
    const one = unwrap(item)
    if (one?.type !== 'String') return undefined
    found.push(text(one.fields['sval']))
  }
  return found
}

/** A string field, empty when absent. */
export function text(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

// Maps, because a field named `constructor` would be found on any plain object.
const FIELDS = new Map(Object.entries(GRAMMAR).map(([type, fields]) => [type, new Map(Object.entries(fields))]))

function fieldsOf(type: string): ReadonlyMap<string, FieldKind> | undefined {
  return FIELDS.get(type)
}

function visitWrapped(value: unknown, visit: (type: string, fields: Ast) => void): void {
  const one = unwrap(value)
  if (one !== undefined) visit(one.type, one.fields)
}
