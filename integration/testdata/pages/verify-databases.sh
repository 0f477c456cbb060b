# What docs/verify-databases.md takes for granted: a source, a MariaDB, and a PostgreSQL that a second changefeed copies to.
admin() { psql -q -v ON_ERROR_STOP=1 "postgres://postgres@$POSTGRES/$1"; }
in_postgres() { sql() { admin stock; }; }
in_copy() { sql() { admin stock_copy; }; }
in_mariadb() { sql() { mariadb --no-defaults --protocol tcp -h "$MARIADB_HOST" -P "$MARIADB_PORT" -u root stock; }; }
names() { # what the last comparison showed
	grep -E "^$1 +$2 +$3 +$4 *\$" said
}
cdc-node() {
	case "$*" in
	'verify stock') command cdc-node "$@" > said; local status=$?; cat said; return $status ;;
	*) command cdc-node "$@" ;;
	esac
}

no_rights() { # but those that everybody has to begin with, and none at all of theirs
	until command cdc-node changefeed pause stock && command cdc-node changefeed get stock | grep -q '^state *paused'; do sleep 0.2; done
	until command cdc-node changefeed pause stock_copy && command cdc-node changefeed get stock_copy | grep -q '^state *paused'; do sleep 0.2; done
	in_mariadb
	sql <<< "UPDATE items SET price = 1.50 WHERE id = 7; INSERT INTO items VALUES (11, 'item 11', 1.50); DELETE FROM items WHERE id = 2000;
		UPDATE visits SET page = 'second' WHERE page = 'other'; REVOKE ALL ON stock.* FROM stock_writer"
	admin stock <<< 'REVOKE stock_owner FROM stock_reader; ALTER ROLE stock_reader NOREPLICATION; REVOKE ALL ON DATABASE stock FROM stock_reader, PUBLIC;
		REVOKE ALL ON SCHEMA public FROM PUBLIC'
	admin stock_copy <<< 'REASSIGN OWNED BY stock_writer TO postgres; REVOKE ALL ON ALL TABLES IN SCHEMA public, fencerow FROM stock_writer;
		REVOKE ALL ON DATABASE stock_copy FROM stock_writer, PUBLIC; REVOKE ALL ON SCHEMA public, fencerow FROM PUBLIC, stock_writer'
	if command cdc-node verify stock || command cdc-node verify stock_copy; then return 1; fi
}
is_enough() { command cdc-node verify stock; }
is_enough_in_postgres() { command cdc-node verify stock_copy; }

admin postgres <<< "CREATE ROLE stock_owner; CREATE DATABASE stock OWNER stock_owner"
admin postgres <<< 'CREATE DATABASE stock_copy'
admin postgres <<< 'CREATE ROLE stock_reader LOGIN REPLICATION; CREATE ROLE stock_writer LOGIN; GRANT stock_owner TO stock_reader;
	GRANT CREATE ON DATABASE stock TO stock_reader; GRANT CREATE ON DATABASE stock_copy TO stock_writer'
admin stock_copy <<< 'GRANT CREATE ON SCHEMA public TO stock_writer'
admin stock <<'SQL'
SET ROLE stock_owner;
CREATE TABLE public.items (id bigint PRIMARY KEY, name text, price numeric(10,2));
CREATE TABLE public.visits (page text);
INSERT INTO items SELECT n, 'item ' || n, 1.50 FROM generate_series(1, 1000) n;
INSERT INTO visits VALUES ('first'), ('first'), ('second'), ('third'), ('third');
SQL
mariadb --no-defaults --protocol tcp -h "$MARIADB_HOST" -P "$MARIADB_PORT" -u root <<< \
	"CREATE DATABASE stock; CREATE USER stock_writer IDENTIFIED BY '$PGPASSWORD_WRITER'; GRANT SELECT, INSERT, UPDATE, DELETE, CREATE ON stock.* TO stock_writer"
command cdc-node changefeed create stock_copy --option 'tables=public.*' --start snapshot \
	--source "postgres://stock_reader@$POSTGRES/stock" --sink "postgres://stock_writer@$POSTGRES/stock_copy"
command cdc-node changefeed wait stock_copy --caught-up
