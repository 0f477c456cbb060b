# What docs/sinks-sql.md takes for granted: databases, a user, and tables that an administrator has made by running a changefeed.
# A password is asked for by neither server here; that it is resolved on the nodes other tests see to.
in_postgres() { sql() { psql -v ON_ERROR_STOP=1 "postgres://postgres@$POSTGRES/shop"; }; }
in_mariadb() { sql() { mariadb --no-defaults --protocol tcp -h "$MARIADB_HOST" -P "$MARIADB_PORT" -u root "$@"; }; }

create() { # name, URI of the sink without its table, table, mode, more arguments
	local name=$1 sink=$2 table=$3 mode=$4
	shift 4
	cdc-node changefeed create "$name" --source "etcd://$SOURCE/orders/" --start snapshot --sink "$sink" --option "table=$table" \
		--option "mode=$mode" "$@"
	cdc-node changefeed wait "$name" --caught-up
}

only_that_is_granted() {
	cdc-node changefeed wait orders --caught-up
	sql <<< 'REVOKE ALL ON DATABASE shop FROM PUBLIC, copy; REASSIGN OWNED BY copy TO postgres;
		REVOKE ALL ON SCHEMA public, fencerow FROM PUBLIC, copy; REVOKE ALL ON ALL TABLES IN SCHEMA public, fencerow FROM copy;
		GRANT USAGE ON SCHEMA public TO PUBLIC'
}
is_enough() {
	cdc-node etcdctl --endpoints "$SOURCE" put "/orders/$1" 'with these rights'
	cdc-node changefeed pause "$1"
	until cdc-node changefeed get "$1" | grep -q '^state *paused'; do sleep 0.2; done
	cdc-node changefeed resume "$1"
	cdc-node changefeed wait "$1" --caught-up
}
makes_its_own() { create "$1" "postgres://copy@$POSTGRES/shop" "$1" "$2" --option sync_point_interval=1s; }

cdc-node etcdctl --endpoints "$SOURCE" put /orders/1 'a first order'
in_mariadb
sql <<< "CREATE DATABASE shop; CREATE USER 'copy'"
create my_orders "mysql://root@$MARIADB_HOST:$MARIADB_PORT/shop" orders copy
cdc-node changefeed remove my_orders --wait
psql -v ON_ERROR_STOP=1 "postgres://postgres@$POSTGRES/postgres" -c 'CREATE DATABASE shop' -c 'CREATE USER copy'
in_postgres
sql <<< 'GRANT CREATE ON DATABASE shop TO copy; GRANT CREATE ON SCHEMA public TO copy'
