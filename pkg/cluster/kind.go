package cluster

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/metamorph-k8s/metamorph/pkg/review"
)

// pageSize is how many objects are listed at once.
const pageSize = 500

// How long a watch that failed is let alone: 1 second at first, at most a minute, and as if nothing had been after two
// minutes without a failure.
const (
	retryFirst = time.Second
	retryMost  = 30 * time.Second // and up to twice as much, so that replicas do not ask all at once
	retryReset = 2 * time.Minute
)

// kind watches the objects of one kind.
type kind struct {
	review.Observed

	client dynamic.ResourceInterface
	// labels selects the objects; "" means all.
	labels string
	store  store
	log    logr.Logger
	clock  clock.Clock
	// answered is told of each definite answer.
	answered func()
	// told is when a failure was last told.
	told time.Time
}

// run keeps the kind up to date until the context ends.
func (k *kind) run(ctx context.Context) {
	// What client-go has to say, about each watch, is of no interest at the usual level.
	ctx = klog.NewContext(ctx, k.log.V(1))
	reflector := cache.NewReflectorWithOptions(k.lister(), nil, &reflected{k}, cache.ReflectorOptions{Name: "cluster", TypeDescription: k.Kind})
	reflector.WatchListPageSize = pageSize
	backoff := wait.Backoff{Duration: retryFirst, Cap: retryMost, Steps: 10, Factor: 2, Jitter: 1}
	delay := backoff.DelayWithReset(k.clock, retryReset)
	// Reflector.RunWithContext would do, but it tells nobody why it failed.
	for ctx.Err() == nil {
		err := reflector.ListAndWatchWithContext(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			k.failed(err)
		}
		select {
		case <-ctx.Done():
		case <-k.clock.After(delay()):
		}
	}
}

// failed is told why the objects cannot be listed or watched.
func (k *kind) failed(err error) {
	definite := apierrors.IsNotFound(err) || apierrors.IsForbidden(err) || apierrors.IsMethodNotSupported(err)
	if now := k.clock.Now(); k.told.IsZero() || now.Sub(k.told) >= logInterval {
		k.told = now
		switch {
		case !definite:
			k.log.Error(err, "Could not watch what policies look at")
		case k.store.complete:
			k.log.Info("May no longer watch what policies look at; they see what it was", "why", err.Error())
		default:
			k.log.Info("May not watch what policies look at; it stays unknown to them", "why", err.Error())
		}
	}
	if definite {
		k.answered()
	}
}

// lister lists and watches the objects. Of each object of a list only its document is kept, page by page; an event of a
// watch, one object at a time, is for the store to look at.
func (k *kind) lister() cache.ListerWatcher {
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.LabelSelector = k.labels
			if o.ResourceVersion == "0" && o.Limit > 0 {
				// From its cache, which "0" means, an API server sends everything at once, whatever the limit.
				o.ResourceVersion = ""
			}
			page, err := k.client.List(ctx, o)
			if err != nil {
				return nil, err
			}
			out := &internalversion.List{
				ListMeta: metav1.ListMeta{ResourceVersion: page.GetResourceVersion(), Continue: page.GetContinue()},
				Items:    make([]runtime.Object, len(page.Items)),
			}
			for i := range page.Items {
				out.Items[i] = k.documentOf(&page.Items[i])
			}
			return out, nil
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector = k.labels
			w, err := k.client.Watch(ctx, o)
			if err != nil && o.SendInitialEvents != nil && (utilnet.IsConnectionRefused(err) || apierrors.IsTooManyRequests(err)) {
				// The reflector would wait and try again by itself, deaf to the end of the context. As any other error it
				// comes back to run.
				err = errors.New(err.Error())
			}
			return w, err
		},
	}
}

// document is an object of which nothing is left but what policies see.
type document struct {
	metav1.TypeMeta
	metav1.ObjectMeta

	// seen is nil if the object is of no interest.
	seen map[string]any
}

// DeepCopyObject implements [runtime.Object]. What policies see is never changed, so it is shared.
func (d *document) DeepCopyObject() runtime.Object {
	c := *d
	return &c
}

// documentOf makes the document of an object; if it cannot be made, that is told, and the object is left out.
func (k *kind) documentOf(u *unstructured.Unstructured) *document {
	d := &document{ObjectMeta: metav1.ObjectMeta{Namespace: u.GetNamespace(), Name: u.GetName(), ResourceVersion: u.GetResourceVersion()}}
	var err error
	if d.seen, err = safely(func() (map[string]any, error) { return k.Document(u.Object) }); err != nil {
		k.leftOut(d, err)
	}
	return d
}

func (k *kind) leftOut(d *document, err error) {
	k.log.Error(err, "An object is left out of what policies see", "namespace", d.Namespace, "name", d.Name)
}

// safely makes an error of a panic: an object that nobody has thought of must not end the webhook. The panic's value may
// hold parts of the object, so only its place is told.
func safely(f func() (map[string]any, error)) (doc map[string]any, err error) {
	defer func() {
		if r := recover(); r != nil {
			doc, err = nil, fmt.Errorf("a panic (%T)\n%s", r, debug.Stack())
		}
	}()
	return f()
}

// reflected is a kind as a [cache.Reflector] writes into it. Only one goroutine does.
type reflected struct{ *kind }

var _ cache.TransformingStore = (*reflected)(nil)

// Transformer implements [cache.TransformingStore]: when the API server streams the list, the reflector collects it, and
// with this it collects documents only.
func (r *reflected) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) { return r.asDocument(obj) }
}

func (r *reflected) asDocument(obj any) (*document, error) {
	switch o := obj.(type) {
	case *document:
		return o, nil
	case *unstructured.Unstructured:
		return r.documentOf(o), nil
	}
	return nil, fmt.Errorf("%T is no object of an API", obj)
}

// Add implements [cache.ReflectorStore].
func (r *reflected) Add(obj any) error {
	d, err := r.asDocument(obj)
	if err != nil {
		return err
	}
	r.put(d)
	return nil
}

// Update implements [cache.ReflectorStore].
func (r *reflected) Update(obj any) error { return r.Add(obj) }

// Delete implements [cache.ReflectorStore].
func (r *reflected) Delete(obj any) error {
	o, ok := obj.(metav1.Object)
	if !ok {
		return fmt.Errorf("%T is no object of an API", obj)
	}
	r.store.remove(r.key(o))
	return nil
}

// Replace implements [cache.ReflectorStore].
func (r *reflected) Replace(all []any, _ string) error {
	there := make(map[key]struct{}, len(all))
	for _, obj := range all {
		d, err := r.asDocument(obj)
		if err != nil {
			return err
		}
		r.put(d)
		there[r.key(d)] = struct{}{}
	}
	r.store.keep(there)
	r.told = time.Time{} // the next failure is news
	r.answered()
	return nil
}

// Resync implements [cache.ReflectorStore].
func (r *reflected) Resync() error { return nil }

func (r *reflected) put(d *document) {
	if err := r.store.put(r.key(d), d.seen); err != nil {
		r.leftOut(d, err)
	}
}

func (r *reflected) key(o metav1.Object) key {
	if r.Cluster {
		return key{name: o.GetName()}
	}
	return key{o.GetNamespace(), o.GetName()}
}
