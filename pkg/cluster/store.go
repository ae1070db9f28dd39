package cluster

import (
	"encoding/json"
	"hash/maphash"

	"github.com/metamorph-k8s/metamorph/pkg/policy"
)

// key names an object of a kind.
type key struct{ namespace, name string }

// store is the part of an inventory that one kind fills. It keeps no object, only the names of those in there.
type store struct {
	inventory *policy.Inventory
	kind      string
	// have maps what is in the inventory to a hash of it.
	have map[key]uint64
	// complete tells that all objects were in there at least once.
	complete bool
}

// put writes a document into the inventory; what is nil, or cannot be written, is taken out of it.
func (s *store) put(k key, doc map[string]any) error {
	if doc == nil {
		s.remove(k)
		return nil
	}
	raw, err := json.Marshal(doc)
	if err == nil {
		hash := maphash.Bytes(seed, raw)
		if old, ok := s.have[k]; ok && old == hash {
			// Most changes are of a status that policies do not see, of an autoscaler's every 15 seconds, and after each change
			// of the inventory the next policy that looks at the kind has to put it together again.
			return nil
		}
		if err = s.inventory.Put(s.kind, k.namespace, k.name, doc); err == nil {
			s.have[k] = hash
			return nil
		}
	}
	s.remove(k) // rather nothing than what it was
	return err
}

var seed = maphash.MakeSeed()

// remove takes a document out. Of a kind that policies do not know yet nothing is ever taken out, for that would make it
// known.
func (s *store) remove(k key) {
	if _, ok := s.have[k]; ok {
		s.inventory.Remove(s.kind, k.namespace, k.name)
		delete(s.have, k)
	}
}

// keep takes out whatever is not there any more. Then the kind is complete, and known to policies.
func (s *store) keep(there map[key]struct{}) {
	for k := range s.have {
		if _, ok := there[k]; !ok {
			s.remove(k)
		}
	}
	s.inventory.Know(s.kind)
	s.complete = true
}
