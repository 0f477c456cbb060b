# The machines of docs/redo.md: a source, a target, an empty target, and the records with a node.
start_etcd source 10.0.0.1
source=$!
start_etcd target 10.0.0.7
start_etcd empty 10.0.0.8
start_etcd records 127.0.0.1
cdc-node server --name n1 --etcd 127.0.0.1:2379 --data-dir "$PWD/n1" --log-level error &
node=$!
until cdc-node health; do sleep 0.2; done

traffic() { # this many changes, to both spans, copied
	for i in $(seq "$(($1 / 100))"); do
		for half in a z; do printf "\n$(printf "put /orders/$half%s $i\\\\n" $(seq 50))\n\n\n" | cdc-node etcdctl --endpoints 10.0.0.1:2379 txn > /dev/null; done
	done
	cdc-node changefeed wait orders --caught-up
}
traffic_goes_on() {
	for half in a z; do
		(while cdc-node etcdctl --endpoints 10.0.0.1:2379 put "/orders/$half$RANDOM" x > /dev/null 2>&1; do :; done) &
	done
}
all_is_lost() {
	kill -KILL "$node" "$source"
	wait "$node" "$source" || true
}
