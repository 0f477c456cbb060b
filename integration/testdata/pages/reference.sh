# The cluster that the examples of docs/reference.md are typed at. They stand in the order of the alphabet, so what one of them
# needs is done right before it; what goes on until Ctrl-C is ended once it has said something.
machines=$(printf ',http://10.0.0.%s:2379' 1 2 3)
start_etcd all 127.0.0.1 --listen-client-urls "http://127.0.0.1:2379$machines"
start_etcd target 10.0.0.7
start_node() { # name, address for HTTP, port for peers
	command cdc-node server --name "$1" --etcd 127.0.0.1:2379 --data-dir "$PWD/$1" --http-addr "$2" --peer-addr "127.0.0.1:$3" --allow-open-api \
		--log-level error &
	until command cdc-node health --url "http://$2"; do kill -0 $!; sleep 0.2; done
}
start_node n0 127.0.0.1:8300 8301
first=$!
start_node n2 127.0.0.1:8310 8311
start_node n5 10.0.0.5:8300 8321
printf 'name: orders\nsource: etcd://127.0.0.1:2379/orders/\nsink: file://%s/var/lib/orders\nstart: snapshot\n' "$PWD" > changefeeds.yaml

until_it_says() { # a pattern, a command
	local pattern=$1 pid status=0
	shift
	: > said
	(exec env --default-signal=INT "$@") >> said 2>&1 &
	pid=$!
	until grep -q "$pattern" said; do kill -0 $pid || { cat said; return 1; }; sleep 0.1; done
	while kill -INT $pid 2> /dev/null; do # again should it have come before anybody listened for it
		for _ in $(seq 50); do if kill -0 $pid 2> /dev/null; then sleep 0.1; fi; done
	done
	wait $pid || status=$?
	[ $status -eq 0 ] || [ $status -eq 130 ] || { cat said; return $status; } # 130: ended by Ctrl-C
}
alone=(unshare --net sh -c 'ip link set lo up; exec "$@"' sh) # in a network of its own: its ports are taken here
settled() { command cdc-node changefeed wait orders; }

cdc-node() {
	case "$*" in
	'changefeed get orders --watch'* | *' list --watch' | *' --follow') until_it_says . cdc-node "$@" ;;
	'changefeed get orders') settled && command cdc-node "$@" ;;
	'changefeed merge'*) command cdc-node changefeed split orders --at /orders/m && settled && command cdc-node "$@" && settled ;;
	'changefeed remove'* | 'changefeed reset'*) # which stand after a pause
		until command cdc-node changefeed get orders | grep -q '^state *paused'; do sleep 0.2; done
		command cdc-node "$@"
		;;
	'changefeed pause'*)
		command cdc-node changefeed get orders > /dev/null || command cdc-node changefeed apply -f changefeeds.yaml
		settled && command cdc-node "$@"
		;;
	'changefeed wait'* | 'changefeed spans'*) settled && command cdc-node "$@" ;;
	'changefeed update'*) command cdc-node changefeed update orders --option flush_interval=1s && command cdc-node "$@" ;;
	'dev') until_it_says http://127.0.0.1:8300/ "${alone[@]}" cdc-node "$@" ;;
	'etcd '*) until_it_says 'ready to serve client requests' "${alone[@]}" cdc-node "$@" ;;
	'etcdutl snapshot restore'*)
		command cdc-node etcdctl snapshot save backup.db
		rm -r var/lib/etcd # which the example of etcd has made
		command cdc-node "$@"
		;;
	'redo apply'*)
		command cdc-node changefeed create redone --source etcd://127.0.0.1:2379/orders/ --sink etcd://127.0.0.1:2379/own/ --start snapshot \
			--option "redo=file://$PWD/var/redo/orders"
		command cdc-node etcdctl put /orders/1 one
		command cdc-node changefeed wait redone --caught-up && command cdc-node "$@"
		;;
	'server '*) # at the port of the first, which is ended
		kill "$first" && wait "$first"
		command cdc-node "$@" &
		until command cdc-node health; do kill -0 $!; sleep 0.2; done
		;;
	'verify orders') # a copy of which there are two to compare
		command cdc-node changefeed remove orders --wait
		command cdc-node changefeed create orders --source etcd://127.0.0.1:2379/orders/ --sink etcd://127.0.0.1:2379/verified/ --start snapshot
		settled && command cdc-node "$@"
		;;
	'verify orders --every'*) until_it_says 'differ' cdc-node "$@" ;;
	*) command cdc-node "$@" ;;
	esac
}
