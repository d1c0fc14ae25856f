/** The target of the demo. */
export const DEMO_TARGET = 'shop-db'

/** The policy of the demo: small enough to read on one screen. */
export const DEMO_POLICY = `# What agents may do with the shop's database.
targets: [${DEMO_TARGET}]

rules:
  - id: read-customers-and-orders
    effect: allow
    principals: [group:agents]
    actions: [sql.select]
    resources: [public.customers, public.orders, public.order_items, "-"]
    limits: {rows: 20, timeout: 10s}

  - id: read-stock
    effect: allow
    principals: [group:agents]
    actions: [sql.select]
    resources: [public.products]
    limits: {rows: 20, timeout: 10s, rate: 8/min}

  - id: stock-changes-need-a-dba
    effect: require_approval
    principals: [group:agents]
    actions: [sql.update]
    resources: [public.products]
    approvers: {any_of: [group:dba], count: 1, expires: 15m}

  - id: orders-are-never-deleted
    effect: deny
    principals: ["*"]
    actions: [sql.delete, sql.drop, sql.truncate]
    reason: Orders are kept for ten years.
    hint: Set the status of an order to cancelled instead.

masks:
  - columns: [public.customers.ssn, public.customers.card]
    transform: redact
    unless: [group:privacy]
  - detect: [email, credit_card, us_ssn]
    transform: partial
    unless: [group:privacy]
`

/** The role the gateway uses at the database: it may do what the policy could ever allow, and nothing else. */
export function backendRoleSql(password: string): string {
  return `
CREATE ROLE sallyport_agent LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD '${password.replaceAll("'", "''")}';
GRANT USAGE ON SCHEMA public TO sallyport_agent;
GRANT SELECT ON public.customers, public.orders, public.order_items, public.products TO sallyport_agent;
GRANT UPDATE (stock) ON public.products TO sallyport_agent;
`
}

/** The account of {@link backendRoleSql}. */
export const BACKEND_ROLE = 'sallyport_agent'
