package epochstore

import "fencerow/kv"

// part is what one record's write brings to a transaction that it shares with others. reads has one Get for everything
// that the else branch must tell about it.
type part struct {
	key   string // no two parts of one transaction have the same
	ifs   []kv.Compare
	thens []kv.Op
	reads []kv.Op
}

// pack is some parts in one transaction behind shared conditions.
type pack struct {
	members []int // indexes of the parts, in order
	txn     kv.Txn
	shared  int // how many of the else branch's reads are shared
}

// responses returns the answers of the else branch to the shared reads, and to those of the i-th member.
func (p pack) responses(all []kv.Response, parts []part, i int) (shared, own []kv.Response) {
	at := p.shared
	for _, member := range p.members[:i] {
		at += len(parts[member].reads)
	}
	return all[:p.shared], all[at : at+len(parts[p.members[i]].reads)]
}

// packParts puts the parts of the given indexes into as few transactions as etcd's limits allow, in order. perPack
// bounds the members of one.
func packParts(shared part, parts []part, indexes []int, perPack int) []pack {
	var packs []pack
	var current pack
	var keys map[string]bool
	size := 0
	open := func() {
		current = pack{shared: len(shared.reads)}
		current.txn.If = append(current.txn.If, shared.ifs...)
		current.txn.Then = append(current.txn.Then, shared.thens...)
		current.txn.Else = append(current.txn.Else, shared.reads...)
		keys = map[string]bool{}
		size = current.txn.Size()
	}
	open()
	for _, index := range indexes {
		p := parts[index]
		own := kv.Txn{If: p.ifs, Then: p.thens, Else: p.reads}.Size()
		full := len(current.members) == perPack ||
			len(current.txn.If)+len(p.ifs) > kv.TxnOpsMax ||
			len(current.txn.Then)+len(p.thens) > kv.TxnOpsMax ||
			len(current.txn.Else)+len(p.reads) > kv.TxnOpsMax ||
			size+own > kv.TxnBytesMax || keys[p.key]
		if full && len(current.members) > 0 {
			packs = append(packs, current)
			open()
		}
		current.members = append(current.members, index)
		current.txn.If = append(current.txn.If, p.ifs...)
		current.txn.Then = append(current.txn.Then, p.thens...)
		current.txn.Else = append(current.txn.Else, p.reads...)
		keys[p.key] = true
		size += own
	}
	if len(current.members) > 0 {
		packs = append(packs, current)
	}
	return packs
}
