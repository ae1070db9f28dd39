package cluster

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"github.com/metamorph-k8s/metamorph/pkg/policy"
	"github.com/metamorph-k8s/metamorph/pkg/review"
)

const (
	// certificateAge is how old a certificate may be when policies look at it.
	certificateAge = time.Minute
	// maxCertificates bounds how many are kept.
	maxCertificates = 1000
	// secretTimeout bounds one look at a Secret: an admission request, which the API server waits 5 seconds for, waits for it.
	secretTimeout = 2 * time.Second
)

// certificates reads the certificates of single Secrets when somebody is about to judge what uses them.
type certificates struct {
	client    rest.Interface
	inventory *policy.Inventory
	observed  review.Observed
	log       logr.Logger
	clock     clock.Clock

	mu    sync.Mutex
	looks map[key]*look
	// told is when a failure was last told.
	told time.Time
}

// look is one reading of a Secret.
type look struct {
	at time.Time
	// done is closed when it is over.
	done chan struct{}
	// kept tells that a document of it, or of an earlier one, is in the inventory.
	kept bool
}

func newCertificates(config *rest.Config, inventory *policy.Inventory, o Options) (*certificates, error) {
	config = dynamic.ConfigFor(config)
	config.APIPath, config.GroupVersion = "/api", &schema.GroupVersion{Version: "v1"}
	config.AcceptContentTypes = config.ContentType // the answer is read here
	client, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, err
	}
	observed, _ := review.ObservedAs("v1", "Secret")
	return &certificates{
		client: client, inventory: inventory, observed: observed,
		log: o.Log.WithValues("kind", observed.Kind), clock: o.Clock, looks: map[key]*look{},
	}, nil
}

// Certificate makes sure that policies see the certificate of a Secret, as it was a minute ago or later, if the options
// allow it and the Secret can be read. It is for calling before what uses the Secret is judged.
//
// Only the Secrets that were asked for are in data.cluster.Certificate, so one that is not there may exist all the same.
func (w *Watcher) Certificate(ctx context.Context, namespace, secret string) {
	if c := w.certificates; c != nil && namespace != "" && secret != "" {
		c.see(ctx, key{namespace, secret})
	}
}

func (c *certificates) see(ctx context.Context, k key) {
	l, mine := c.claim(k)
	if !mine {
		select {
		case <-l.done:
		case <-ctx.Done():
		}
		return
	}
	defer close(l.done)
	secret, err := c.read(ctx, k)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.looks[k] != l {
		return // it had to make room meanwhile
	}
	switch {
	case apierrors.IsNotFound(err):
		c.remove(k, l)
	case err != nil:
		if ctx.Err() != nil {
			l.at = time.Time{} // the caller's end says nothing about the Secret: let the next one ask
		}
		c.failed(k, err)
	default:
		c.put(k, l, secret)
	}
}

// claim finds the look at a Secret that is recent enough, or begins one, which is then the caller's to do.
func (c *certificates) claim(k key) (l *look, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.Now()
	before := c.looks[k]
	if before != nil && (!isClosed(before.done) || now.Sub(before.at) < certificateAge) {
		return before, false
	}
	if before == nil && len(c.looks) >= maxCertificates {
		c.makeRoom()
	}
	l = &look{at: now, done: make(chan struct{}), kept: before != nil && before.kept}
	c.looks[k] = l
	return l, true
}

func isClosed(done chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// makeRoom forgets the Secret that nobody has looked at for the longest time. It needs the lock.
func (c *certificates) makeRoom() {
	var which key
	var oldest *look
	for k, l := range c.looks {
		if oldest == nil || l.at.Before(oldest.at) {
			which, oldest = k, l
		}
	}
	c.remove(which, oldest)
	delete(c.looks, which)
}

// put shows a Secret's certificate to policies. It needs the lock.
func (c *certificates) put(k key, l *look, secret map[string]any) {
	doc, err := safely(func() (map[string]any, error) { return c.observed.Document(secret) })
	if err == nil && doc != nil {
		err = c.inventory.Put(c.observed.Kind, k.namespace, k.name, doc)
	}
	if err != nil {
		c.log.Error(err, "A certificate cannot be read", "namespace", k.namespace, "secret", k.name)
	}
	if err != nil || doc == nil {
		c.remove(k, l)
		return
	}
	l.kept = true
}

// remove takes a certificate out of what policies see. It needs the lock.
func (c *certificates) remove(k key, l *look) {
	if l.kept {
		c.inventory.Remove(c.observed.Kind, k.namespace, k.name)
		l.kept = false
	}
}

// failed tells why a Secret cannot be read. It needs the lock.
func (c *certificates) failed(k key, err error) {
	if now := c.clock.Now(); c.told.IsZero() || now.Sub(c.told) >= logInterval {
		c.told = now
		c.log.Error(err, "Could not read a Secret's certificate, which policies look at", "namespace", k.namespace, "secret", k.name)
	}
}

// read gets a Secret, without anything of it but its name and its certificate.
func (c *certificates) read(ctx context.Context, k key) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(ctx, secretTimeout)
	defer cancel()
	res := c.client.Get().Namespace(k.namespace).Resource("secrets").Name(k.name).Do(ctx)
	raw, err := res.Raw()
	if err != nil {
		return nil, res.Error() // which, other than Raw's, says what the API server said
	}
	defer clear(raw) // the key is in there
	var secret struct {
		Data struct {
			Certificate string `json:"tls.crt"`
		} `json:"data"`
	}
	if err := json.Unmarshal(raw, &secret); err != nil {
		return nil, err
	}
	return map[string]any{
		"metadata": map[string]any{"namespace": k.namespace, "name": k.name},
		"data":     map[string]any{"tls.crt": secret.Data.Certificate},
	}, nil
}
