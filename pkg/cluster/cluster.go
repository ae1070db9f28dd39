// Package cluster keeps what policies may see of the cluster, data.cluster, as the cluster is: of every kind that
// [review.Observable] lists it watches all objects, and keeps of each the few fields that policies see.
//
// A kind that cannot be read, because the API server does not serve it or RBAC forbids it, stays unknown to policies,
// which is not the same as empty, and keeps nothing else waiting.
package cluster

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
	"github.com/metamorph-k8s/metamorph/pkg/policy"
	"github.com/metamorph-k8s/metamorph/pkg/review"
)

// nameLabel stands on every StatefulSet that Metamorph manages, so the API server need not send the others.
const nameLabel = setting.Prefix + "name"

// Options of a [Watcher]. The zero value is usable.
type Options struct {
	// Certificates lets [Watcher.Certificate] read Secrets. Without it that kind stays unknown to policies.
	Certificates bool
	// Log is where failures are told.
	Log logr.Logger
	// Clock is for tests; nil is the real one.
	Clock clock.Clock
}

// Watcher keeps an inventory. It is safe for concurrent use.
type Watcher struct {
	kinds        []*kind
	certificates *certificates

	// unanswered counts the kinds that the API server has given no definite answer about; synced is closed with the last.
	unanswered atomic.Int32
	synced     chan struct{}
}

// New makes a watcher that writes into an inventory, which nobody else may write the same kinds into. It does not ask the
// API server yet.
func New(config *rest.Config, inventory *policy.Inventory, o Options) (*Watcher, error) {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	w := &Watcher{synced: make(chan struct{})}
	if o.Certificates {
		if w.certificates, err = newCertificates(config, inventory, o); err != nil {
			return nil, err
		}
	}
	for _, observed := range review.Observable {
		if observed.Kind == review.CertificateKind {
			continue // not watched: that would keep every Secret of the cluster passing through
		}
		k := &kind{
			Observed: observed, log: o.Log.WithValues("kind", observed.Kind), clock: o.Clock,
			client: client.Resource(resource(observed)),
			store:  store{inventory: inventory, kind: observed.Kind, have: map[key]uint64{}},
		}
		k.answered = sync.OnceFunc(func() {
			if w.unanswered.Add(-1) == 0 {
				close(w.synced)
			}
		})
		if observed.Kind == "StatefulSet" {
			k.labels = nameLabel
		}
		w.kinds = append(w.kinds, k)
		inventory.Await(observed.Kind)
	}
	w.unanswered.Store(int32(len(w.kinds))) //nolint:gosec // a handful
	return w, nil
}

// resource is a kind's name in the API's paths. The kinds are Kubernetes's own, so they need no discovery, and no right
// to it.
func resource(o review.Observed) schema.GroupVersionResource {
	plural, _ := meta.UnsafeGuessKindToResource(o.GroupVersionKind)
	return plural
}

// Run watches until the context ends. It is for calling once; its error is always nil.
func (w *Watcher) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, k := range w.kinds {
		wg.Go(func() { k.run(ctx) })
	}
	wg.Wait()
	return nil
}

// Synced tells whether there has been a first definite answer about every kind: all of its objects, or that it cannot be
// read.
func (w *Watcher) Synced() bool { return w.unanswered.Load() == 0 }

// WaitForSync waits until [Watcher.Synced] holds; it is false if the context ends before.
func (w *Watcher) WaitForSync(ctx context.Context) bool {
	select {
	case <-w.synced:
		return true
	case <-ctx.Done():
		return w.Synced()
	}
}

// logInterval is how often a failure that lasts is told.
const logInterval = time.Minute
