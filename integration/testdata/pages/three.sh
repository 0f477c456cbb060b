# The three machines of docs/operations.md, all on this one: certificates as docs/security.md makes them, the command of the page
# for n1, and the same for n2 and n3 with their names and addresses. All three have to become ready, then they are ended.
(
	certificates=$(awk '/^### Making certificates/ { at = 1 } at && /^```sh/ { show = 1; next } show && /^```/ { exit } show' "$PAGES/../../../docs/security.md")
	eval "${certificates//\/etc\/cdc-node\//$PWD/etc/cdc-node/}"
)
cdc-node() {
	local nodes=() arguments argument i
	for i in 1 2 3; do
		arguments=()
		for argument in "$@"; do
			case $argument in
			n1) argument=n$i ;;
			n1=*) ;; # the list is everybody's
			*)
				argument=${argument//\/n1/\/n$i}
				argument=${argument//cdc-n1/cdc-n$i}
				argument=${argument//10.0.0.1/10.0.0.$i}
				;;
			esac
			arguments+=("$argument")
		done
		command cdc-node "${arguments[@]}" --log-level error &
		nodes+=($!)
	done
	for i in 1 2 3; do
		until command cdc-node health --url "https://10.0.0.$i:8300" --tls-ca "$PWD/etc/cdc-node/ca.pem"; do kill -0 "${nodes[@]}"; sleep 0.2; done
	done
	kill -KILL "${nodes[@]}"
	wait "${nodes[@]}" || true
}
