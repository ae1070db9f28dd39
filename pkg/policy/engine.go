package policy

import "sync/atomic"

// Engine holds the set of policies in force. It is swapped as a whole, so a request sees one set from its beginning to its
// end.
type Engine struct {
	// Inventory is data.cluster.
	Inventory *Inventory

	set atomic.Pointer[Set]
}

// Set returns the set in force; an empty one before the first Use.
func (e *Engine) Set() *Set {
	if s := e.set.Load(); s != nil {
		return s
	}
	return &Set{}
}

// Use puts a set in force.
func (e *Engine) Use(s *Set) { e.set.Store(s) }
