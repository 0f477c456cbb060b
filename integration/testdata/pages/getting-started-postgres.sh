# What docs/getting-started-postgres.md takes for granted: two databases, and tables that belong to a role. Both are on one
# server here, whose log is logical already.
admin() { psql -v ON_ERROR_STOP=1 "postgres://postgres@$POSTGRES/$1"; }
at_source() { sql() { admin app; }; }
at_target() { sql() { admin copy; }; }

has() { sql <<< "COPY (SELECT id, state FROM orders) TO STDOUT WITH (DELIMITER '|')" | grep -Fx "$1"; }
has_visits() { sql <<< 'COPY (SELECT count(*) FROM visits) TO STDOUT' | grep -Fx "$1"; }
no_slots() { sql <<< "COPY (SELECT count(*) FROM pg_replication_slots WHERE database = 'app') TO STDOUT" | grep -Fx 0; }

admin postgres <<< 'CREATE ROLE app_owner; CREATE DATABASE app OWNER app_owner'
admin postgres <<< 'CREATE DATABASE copy'
at_source
sql <<'SQL'
SET ROLE app_owner;
CREATE TABLE public.orders (id bigint PRIMARY KEY, state text);
CREATE TABLE public.visits (page text, at timestamptz);
INSERT INTO orders VALUES (1, 'new'), (2, 'new'), (3, 'paid');
SQL
