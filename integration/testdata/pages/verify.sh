# The machines of docs/verify.md: a source, a target, and the records with a node.
start_etcd source 10.0.0.1
start_etcd target 10.0.0.7
start_etcd records 127.0.0.1
cdc-node server --name n1 --etcd 127.0.0.1:2379 --data-dir "$PWD/n1" --log-level error &
until cdc-node health; do sleep 0.2; done
for i in $(seq 30); do cdc-node etcdctl --endpoints 10.0.0.1:2379 put "/orders/$i" "order $i" > /dev/null; done

cdc-node() {
	case "$*" in
	'verify orders --every'*) for_a_while cdc-node "$@" ;;
	*) command cdc-node "$@" ;;
	esac
}
for_a_while() { # a command that goes on until Ctrl-C: it is ended after its second report
	(exec env --default-signal=INT "$@") > said 2>&1 &
	local pid=$! status=0
	until [ "$(grep -c '^compared ' said)" -ge 2 ]; do kill -0 $pid || { cat said; return 1; }; sleep 0.1; done
	kill -INT $pid
	wait $pid || status=$?
	[ $status -eq 1 ] || { cat said; return 1; } # rows differed
}
