# The cluster of docs/inspect-with-etcdctl.md: an etcd at the port that the page names, three nodes, two changefeeds.
cdc-node etcd --data-dir "$PWD/etcd" --listen-client-urls http://127.0.0.1:23790 --advertise-client-urls http://127.0.0.1:23790 \
	--log-level error --unsafe-no-fsync &
for i in 1 2 3; do
	at=$((8300 + (i - 1) * 10)) # the first at the port that is asked unless one is named
	cdc-node server --name "n$i" --etcd 127.0.0.1:23790 --data-dir "$PWD/n$i" --http-addr "127.0.0.1:$at" --peer-addr "127.0.0.1:$((at + 1))" \
		--log-level error &
done
until cdc-node health && cdc-node health --url http://127.0.0.1:8310 && cdc-node health --url http://127.0.0.1:8320; do sleep 0.2; done
cdc-node changefeed create copy --source etcd://127.0.0.1:23790/orders/ --sink etcd://127.0.0.1:23790/backup/ --start snapshot \
	--option split_keys=/orders/3
cdc-node changefeed create archive --source etcd://127.0.0.1:23790/orders/ --sink "file://$PWD/archive" --start snapshot
cdc-node changefeed wait copy
await_paused() { until cdc-node changefeed get "$1" -o json | grep -q '"state": *"paused"'; do sleep 0.2; done; }
