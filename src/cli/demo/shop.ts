/**
 * A small online shop for the demo and the tests. Everything in it is made up, by a generator that always makes the
 * same: social security numbers are from a range never issued, card numbers are the payment industry's test numbers.
 *
 * @packageDocumentation
 */

/** Tables, a view and an internal schema; no data. */
const SHOP_SCHEMA = `
CREATE TABLE public.customers (
  id integer PRIMARY KEY,
  name text NOT NULL,
  email text NOT NULL UNIQUE,
  ssn text NOT NULL,
  card text,
  plan text NOT NULL DEFAULT 'free' CHECK (plan IN ('free', 'plus', 'business')),
  created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE public.customers IS 'People who have an account in the shop';
CREATE TABLE public.products (
  id integer PRIMARY KEY,
  sku text NOT NULL UNIQUE,
  name text NOT NULL,
  price numeric(10,2) NOT NULL CHECK (price >= 0),
  stock integer NOT NULL DEFAULT 0 CHECK (stock >= 0)
);
CREATE TABLE public.orders (
  id integer PRIMARY KEY,
  customer_id integer NOT NULL REFERENCES public.customers (id),
  status text NOT NULL DEFAULT 'new' CHECK (status IN ('new', 'paid', 'shipped', 'delivered', 'returned', 'cancelled')),
  total numeric(10,2) NOT NULL,
  note text,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX orders_customer ON public.orders (customer_id);
CREATE TABLE public.order_items (
  order_id integer NOT NULL REFERENCES public.orders (id),
  product_id integer NOT NULL REFERENCES public.products (id),
  quantity integer NOT NULL CHECK (quantity > 0),
  price numeric(10,2) NOT NULL,
  PRIMARY KEY (order_id, product_id)
);
CREATE VIEW public.customer_view AS SELECT id, name, email, ssn, plan FROM public.customers;
CREATE SCHEMA internal;
CREATE TABLE internal.audit_log (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT now(),
  who text NOT NULL,
  what text NOT NULL
);
`

const CUSTOMERS = 50
const ORDERS = 300
const FIRST = 'Ada Bruno Chiara Daniel Elif Farah Goran Hanna Ivo Jelena Kofi Lena Mateo Noor Oskar Priya'.split(' ')
const LAST = 'Almeida Berg Costa Dvorak Eriksen Fontaine Grant Haddad Ito Jansen Kowalski Lindgren Moreau'.split(' ')
const PLANS = ['free', 'free', 'free', 'plus', 'plus', 'business']
const STATUSES = ['new', 'paid', 'shipped', 'delivered', 'delivered', 'delivered', 'returned', 'cancelled']
const THINGS = 'Desk Lamp|Office Chair|Notebook|Water Bottle|Backpack|Keyboard|Monitor Arm|Headphones'.split('|')
const KINDS = ['Classic', 'Compact', 'Travel', 'Studio', 'Eco']
const CARDS = [
  '4242424242424242',
  '4000056655665556',
  '4012888888881881',
  '5555555555554444',
  '5200828282828210',
  '5105105105105100',
  '378282246310005',
  '371449635398431',
  '6011111111111117',
  '3566002020360505',
]
const NOTES = [
  'Please ring twice.',
  'Leave with the neighbour at number 12.',
  'Send the invoice to {email}, not to the account address.',
  'Gift wrapping, no price on the slip.',
  'Customer asked to be reached at {email} before delivery.',
  'Second attempt after 6 pm.',
]

/** Schema and data as one script. The same text every time. */
export function shopSql(): string {
  return SHOP_SCHEMA + shopData()
}

function shopData(): string {
  const random = generator(20_251)
  const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)] as T
  const emails: string[] = []
  const customers = range(CUSTOMERS).map((id) => {
    const [first, last] = [FIRST[id % FIRST.length] as string, LAST[(id * 5) % LAST.length] as string]
    const email = `${first}.${last}${id}@example.com`.toLowerCase()
    emails.push(email)
    // Area numbers from 900 on are never issued as social security numbers, and these groups never as tax numbers.
    const ssn = `9${digits(random, 2)}-${10 + Math.floor(random() * 39)}-${digits(random, 4)}`
    const card = id % 9 === 0 ? null : pick(CARDS)
    return [id, `${first} ${last}`, email, ssn, card, pick(PLANS), day(random, 2023, 700)]
  })
  const products = THINGS.flatMap((thing, t) =>
    KINDS.map((kind, k) => {
      const sku = `${thing.replace(/[^A-Z]/g, '')}${t + 1}-${kind.slice(0, 3).toUpperCase()}`
      return [t * KINDS.length + k + 1, sku, `${kind} ${thing}`, cents(random, 490, 24_900), Math.floor(random() * 120)]
    }),
  )
  const orders: Row[] = []
  const items: Row[] = []
  for (const id of range(ORDERS)) {
    const lines = distinct(1 + Math.floor(random() * 3), () => pick(products))
    let total = 0
    for (const product of lines) {
      const quantity = 1 + Math.floor(random() * 3)
      total += Math.round(Number(product[3]) * 100) * quantity
      items.push([id, product[0] as number, quantity, product[3] as string])
    }
    const note = random() < 0.3 ? pick(NOTES).replace('{email}', pick(emails)) : null
    orders.push([
      id,
      1 + Math.floor(random() * CUSTOMERS),
      pick(STATUSES),
      (total / 100).toFixed(2),
      note,
      day(random, 2025, 320),
    ])
  }
  return [
    insert('public.customers', customers),
    insert('public.products', products),
    insert('public.orders', orders),
    insert('public.order_items', items),
    `INSERT INTO internal.audit_log (who, what) VALUES ('deploy', 'shop released');\n`,
  ].join('')
}

type Row = readonly (string | number | null)[]

function insert(table: string, rows: readonly Row[]): string {
  const values = rows.map((row) => `(${row.map(literal).join(', ')})`)
  return `INSERT INTO ${table} VALUES\n${values.join(',\n')};\n`
}

function literal(value: string | number | null): string {
  if (value === null) return 'NULL'
  return typeof value === 'number' ? String(value) : `'${value.replaceAll("'", "''")}'`
}

/** Mulberry32: small, and the same on every machine. */
function generator(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

function range(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index + 1)
}

function digits(random: () => number, count: number): string {
  return String(Math.floor(random() * 10 ** count)).padStart(count, '0')
}

function cents(random: () => number, low: number, high: number): string {
  return ((low + Math.floor(random() * (high - low))) / 100).toFixed(2)
}

function day(random: () => number, year: number, span: number): string {
  const at = Date.UTC(year, 0, 1) + Math.floor(random() * span * 86_400) * 1000
  return new Date(at).toISOString()
}

function distinct<T>(count: number, make: () => T): T[] {
  const made = new Set<T>()
  while (made.size < count) made.add(make())
  return [...made]
}
