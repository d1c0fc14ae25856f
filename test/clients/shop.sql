CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN zip AS text CHECK (VALUE ~ '^[0-9]{5}$');
CREATE TABLE customers (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name varchar(80) NOT NULL,
  email varchar(120) NOT NULL UNIQUE,
  ssn varchar(11),
  card text,
  plan text NOT NULL DEFAULT 'free',
  mood mood,
  zip zip,
  tags text[] NOT NULL DEFAULT '{}',
  data jsonb NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL DEFAULT '2024-05-01 12:00:00+00',
  referrer_id integer REFERENCES customers (id)
);
COMMENT ON TABLE customers IS 'Who buys.';
COMMENT ON COLUMN customers.plan IS 'What they pay for.';
CREATE TABLE orders (
  id bigserial PRIMARY KEY,
  customer_id integer NOT NULL REFERENCES customers (id) ON DELETE CASCADE,
  status text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'paid', 'sent')),
  total numeric(10, 2) NOT NULL,
  note text,
  placed_at timestamp NOT NULL DEFAULT '2024-06-01 08:00:00'
);
CREATE INDEX orders_customer ON orders (customer_id);
CREATE INDEX orders_open ON orders (placed_at) WHERE status = 'open';
CREATE TABLE items (
  order_id bigint NOT NULL REFERENCES orders (id),
  line integer NOT NULL,
  sku text NOT NULL,
  quantity integer NOT NULL DEFAULT 1,
  price numeric(10, 2) NOT NULL,
  PRIMARY KEY (order_id, line)
);
CREATE TABLE events (at timestamptz NOT NULL, kind text NOT NULL, value double precision) PARTITION BY RANGE (at);
CREATE TABLE events_2024 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE VIEW open_orders AS SELECT id, customer_id, total FROM orders WHERE status = 'open';
CREATE MATERIALIZED VIEW revenue AS SELECT customer_id, sum(total) AS total FROM orders GROUP BY customer_id;
CREATE FUNCTION add_one(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';
INSERT INTO customers (name, email, ssn, card, plan, mood, zip, tags, data, referrer_id)
  SELECT 'Name ' || i, 'c' || i || '@example.com', '123-45-' || (6000 + i), '411111111111' || (1000 + i),
    (ARRAY['free', 'pro', 'team'])[i % 3 + 1], (ARRAY['sad', 'ok', 'happy'])[i % 3 + 1]::mood, (10000 + i)::text,
    ARRAY['t' || i % 4], jsonb_build_object('score', i), NULLIF(i / 10, 0) FROM generate_series(1, 40) i;
INSERT INTO orders (customer_id, status, total, note)
  SELECT i % 40 + 1, (ARRAY['open', 'paid', 'sent'])[i % 3 + 1], i * 1.25, CASE WHEN i % 5 = 0 THEN 'gift' END
  FROM generate_series(1, 120) i;
INSERT INTO items SELECT i, 1, 'sku' || i % 7, i % 3 + 1, i * 1.25 FROM generate_series(1, 120) i;
INSERT INTO events SELECT '2024-12-20'::timestamptz + i * interval '1 day', (ARRAY['view', 'buy'])[i % 2 + 1], i FROM generate_series(1, 30) i;
REFRESH MATERIALIZED VIEW revenue;
ANALYZE;
