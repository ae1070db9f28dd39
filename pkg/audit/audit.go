// Package audit judges, now and then, every StatefulSet of the cluster as it is stored: those that were there before
// Metamorph, those that a policy is newer than, those that an exception covers, and those that nobody annotated.
//
// Its memory does not grow with the cluster: it reads page by page, and keeps of an object no more than a number.
package audit

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/clock"

	"github.com/metamorph-k8s/metamorph/pkg/admission"
	"github.com/metamorph-k8s/metamorph/pkg/policy"
	"github.com/metamorph-k8s/metamorph/pkg/review"
)

// What an [Auditor] does where its fields say nothing.
const (
	DefaultInterval       = 10 * time.Minute
	DefaultDelay          = 15 * time.Second
	DefaultPagesPerSecond = 5
	DefaultMaxEvents      = 100
)

// jitter is by how much intervals vary, so that nothing in a cluster happens in step.
const jitter = 0.1

// pageSize is how many objects are read at once. With their managedFields they may have some ten kilobytes each.
const pageSize = 100

// Findings is told what was found in an object, which may be nothing. An object may be told about twice in one audit.
type Findings func(namespace, name string, findings []policy.Finding)

// Auditor audits. Reader, Reviewer and Namespaces are required; the fields must not be changed once it is in use.
type Auditor struct {
	Reader     Reader
	Reviewer   *review.Reviewer
	Namespaces admission.Namespaces
	// Profiles are for trying fixes; nil knows the built-in ones.
	Profiles admission.Profiles
	// Certificates, if not nil, is told of each Secret with a certificate before the object that names it is judged.
	Certificates admission.Certificates
	// Excluded are the namespaces that are left alone besides kube-system. "" in it means none.
	Excluded []string

	// Recorder writes the Events; nil writes none.
	Recorder Recorder
	// Instance says in Events who found it; "" means the name of the host.
	Instance string
	// Findings may be nil.
	Findings Findings
	// Metrics may be nil.
	Metrics *Metrics
	Log     logr.Logger

	// Interval is the time between two audits, Delay that before the first, PagesPerSecond bounds what is asked of the API
	// server, MaxEvents the Events of one audit. Where they are 0, the defaults hold.
	Interval, Delay time.Duration
	PagesPerSecond  float64
	MaxEvents       int
	// Clock is for tests; nil is the real one.
	Clock clock.Clock

	mu    sync.Mutex // one audit at a time
	pages *rate.Limiter
	told  map[types.UID]uint64 // what Events told of objects, as a hash
}

// Summary is what came out of an audit.
type Summary struct {
	// Objects that were judged, and Roles: how many of each (kafka, zookeeper, plain, other).
	Objects int
	Roles   map[string]int
	// Findings by what follows from them; Excepted are those among them that an exception lowered.
	Findings map[policy.Action]int
	Excepted int
	// Events that were written, and how many there was no room for; they are written by the next audits.
	Events, Postponed int
	// Errors are the objects that could not be judged, and the Events that could not be written.
	Errors int
	// Incomplete tells that not all objects were seen.
	Incomplete bool
	Took       time.Duration
}

// Run audits until the context ends. It is for one replica at a time.
func (a *Auditor) Run(ctx context.Context) {
	// What this replica found is not for Prometheus any more once another one audits.
	defer a.Metrics.forget()
	for delay := cmp.Or(a.Delay, DefaultDelay); ; delay = cmp.Or(a.Interval, DefaultInterval) {
		select {
		case <-ctx.Done():
			return
		case <-a.clock().After(wait.Jitter(delay, jitter)):
		}
		if s, err := a.RunOnce(ctx); err != nil && ctx.Err() == nil {
			a.Log.Error(err, "The audit is not complete", "objects", s.Objects)
		}
	}
}

// RunOnce audits once. The error says why the audit is incomplete.
func (a *Auditor) RunOnce(ctx context.Context) (Summary, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	start := a.clock().Now()
	r, err := a.all(ctx)
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		// The API server has forgotten the state that the list began with. Begin again, and count from the beginning.
		a.Log.V(1).Info("The list of StatefulSets has expired; it begins again", "objects", r.sum.Objects)
		r, err = a.all(ctx)
	}
	r.sum.Incomplete = err != nil
	r.tell(ctx)
	r.remember()
	r.sum.Took = a.clock().Since(start)
	a.Metrics.observe(&r.sum, r.codes, a.clock().Now())
	a.log(&r.sum)
	return r.sum, err
}

// all lists and judges all objects.
func (a *Auditor) all(ctx context.Context) (*run, error) {
	r := &run{
		Auditor: a, sum: Summary{Roles: map[string]int{}, Findings: map[policy.Action]int{}},
		codes: map[series]int{}, hashes: map[types.UID]uint64{}, now: a.clock().Now(),
	}
	r.surroundings(ctx)
	for token := ""; ; {
		if err := a.wait(ctx); err != nil {
			return r, err
		}
		page, err := a.Reader.Page(ctx, pageSize, token)
		if err != nil {
			if ctx.Err() == nil {
				r.failed(reasonList)
			}
			return r, fmt.Errorf("listing StatefulSets: %w", err)
		}
		for i, raw := range page.Items {
			page.Items[i] = nil // it may go as soon as it is judged
			r.object(ctx, raw)
			if ctx.Err() != nil {
				return r, ctx.Err()
			}
		}
		if token = page.Continue; token == "" {
			return r, nil
		}
	}
}

// wait waits until another page may be asked for.
func (a *Auditor) wait(ctx context.Context) error {
	if a.pages == nil {
		a.pages = rate.NewLimiter(rate.Limit(cmp.Or(a.PagesPerSecond, DefaultPagesPerSecond)), 1)
	}
	now := a.clock().Now()
	delay := a.pages.ReserveN(now, 1).DelayFrom(now)
	if delay <= 0 {
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-a.clock().After(delay):
		return nil
	}
}

// excluded tells whether the objects of a namespace are left alone: a finding there is nobody's to act on.
func (a *Auditor) excluded(namespace string) bool {
	return namespace == metav1.NamespaceSystem || slices.Contains(a.Excluded, namespace)
}

func (a *Auditor) log(s *Summary) {
	log := a.Log.WithValues("objects", s.Objects, "took", s.Took.String())
	for action := policy.Deny; action >= policy.Audit; action-- {
		log = log.WithValues(action.String(), s.Findings[action])
	}
	log = log.WithValues("excepted", s.Excepted, "events", s.Events)
	if s.Postponed > 0 {
		log = log.WithValues("eventsPostponed", s.Postponed)
	}
	if s.Errors > 0 {
		log = log.WithValues("errors", s.Errors)
	}
	if s.Incomplete {
		log = log.WithValues("incomplete", true)
	}
	log.Info("Audit")
}

func (a *Auditor) clock() clock.Clock {
	if a.Clock == nil {
		return clock.RealClock{}
	}
	return a.Clock
}

// instance is who found it.
func (a *Auditor) instance() string {
	if a.Instance != "" {
		return a.Instance
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		return "metamorph"
	}
	return host
}
