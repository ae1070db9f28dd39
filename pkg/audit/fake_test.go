package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/metamorph-k8s/metamorph/pkg/admission"
	"github.com/metamorph-k8s/metamorph/pkg/mutate"
	"github.com/metamorph-k8s/metamorph/pkg/policy"
	"github.com/metamorph-k8s/metamorph/pkg/review"
)

type object = map[string]any

// rules find what the labels of an object ask for.
const rules = `# METADATA
# title: a label says so
# custom: {code: TEST-1, match: {roles: [kafka, plain]}}
package test.label

deny contains {"msg": msg, "field": "metadata.labels[deny]"} if msg := input.object.metadata.labels.deny

warn contains {"msg": msg, "field": "metadata.labels[warn]"} if msg := input.object.metadata.labels.warn

warn contains {"msg": msg} if {
	some n in numbers.range(1, to_number(input.object.metadata.labels.many))
	msg := sprintf("number %d of many", [n])
}

warn contains {"msg": sprintf("the namespace is of %s", [team]), "annotation": "heap"} if {
	input.object.metadata.labels.team == "?"
	team := input.namespace.labels.team
}
`

const moreRules = `# METADATA
# title: a Kafka that nobody looks after
# custom: {code: TEST-2, severity: audit, match: {roles: [plain]}}
package test.plain

deny contains {"msg": sprintf("%s runs %s", [name, c.image.reference])} if {
	some name, c in input.containers
	contains(c.image.reference, "kafka")
}
`

const leakyRules = `# METADATA
# title: repeats what it should not
# custom: {code: TEST-3, match: {roles: [plain]}}
package test.leak

deny contains {"msg": sprintf("%v %v", [c.env, c.args])} if {
	some c in input.containers
	input.object.metadata.labels.leak
}
`

const brokenRules = `# METADATA
# title: cannot be evaluated
# custom: {code: TEST-4, match: {roles: [plain]}}
package test.broken

deny contains {"msg": "x"} if to_number(input.object.metadata.labels.broken) > 1
`

// fakeAPI is as much of an API server as an audit needs.
type fakeAPI struct {
	mu     sync.Mutex
	sets   []object
	pages  []string // the tokens of the pages that were asked for
	events []*eventsv1.Event
	// page, if not nil, is asked before each page; a status other than 0 is its answer.
	page func(token string) int
	// refuse answers Events with a status other than 0.
	refuse int
}

// ServeHTTP implements [http.Handler].
func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case r.Method == http.MethodGet && r.URL.Path == "/apis/apps/v1/statefulsets":
		f.list(w, r)
	case r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/apis/events.k8s.io/v1/namespaces/"):
		f.event(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (f *fakeAPI) list(w http.ResponseWriter, r *http.Request) {
	token := r.URL.Query().Get("continue")
	f.pages = append(f.pages, token)
	if f.page != nil {
		if code := f.page(token); code != 0 {
			reply(w, code, status(code))
			return
		}
	}
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	from, _ := strconv.Atoi(token)
	to := min(from+limit, len(f.sets))
	md := object{"resourceVersion": "1"}
	if to < len(f.sets) {
		md["continue"] = strconv.Itoa(to)
	}
	reply(w, http.StatusOK, object{"apiVersion": "apps/v1", "kind": "StatefulSetList", "metadata": md, "items": f.sets[from:to]})
}

func (f *fakeAPI) event(w http.ResponseWriter, r *http.Request) {
	e := &eventsv1.Event{}
	if err := json.NewDecoder(r.Body).Decode(e); err != nil {
		reply(w, http.StatusBadRequest, status(http.StatusBadRequest))
		return
	}
	switch {
	case f.refuse != 0:
		reply(w, f.refuse, status(f.refuse))
	case slices.ContainsFunc(f.events, func(old *eventsv1.Event) bool { return old.Namespace == e.Namespace && old.Name == e.Name }):
		reply(w, http.StatusConflict, object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "AlreadyExists", "code": 409})
	default:
		f.events = append(f.events, e)
		reply(w, http.StatusCreated, e)
	}
}

func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}

func status(code int) object {
	reason := map[int]string{http.StatusGone: "Expired", http.StatusForbidden: "Forbidden", http.StatusInternalServerError: "InternalError"}[code]
	return object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": "refused"}
}

// fixture is an auditor and what is around it.
type fixture struct {
	testing.TB
	*Auditor

	api      *fakeAPI
	registry *prometheus.Registry
	clock    *clocktesting.FakeClock
	log      *lines
	found    map[string][]policy.Finding
}

// lines is a log.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) logger() logr.Logger {
	return funcr.New(func(_, args string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.all = append(l.all, args)
	}, funcr.Options{})
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, "\n")
}

// namespaces are the fake's.
type namespaces struct{}

func (namespaces) Namespace(_ context.Context, name string) (admission.Namespace, error) {
	switch name {
	case "unknown":
		return admission.Namespace{}, errors.New("there is no such namespace")
	case "panic":
		panic("hunter2")
	}
	return admission.Namespace{UID: "uid-" + name, Labels: map[string]string{"team": "red"}}, nil
}

func newFixture(t testing.TB, sets ...object) *fixture {
	t.Helper()
	f := &fixture{
		TB: t, api: &fakeAPI{sets: sets}, registry: prometheus.NewRegistry(), log: &lines{}, found: map[string][]policy.Finding{},
		clock: clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)),
	}
	srv := httptest.NewServer(f.api)
	t.Cleanup(srv.Close)
	config := &rest.Config{Host: srv.URL, QPS: -1}
	reader, err := NewReader(config)
	if err != nil {
		t.Fatal(err)
	}
	recorder, err := NewRecorder(config)
	if err != nil {
		t.Fatal(err)
	}
	f.Auditor = &Auditor{
		Reader: reader, Recorder: recorder, Namespaces: namespaces{}, Excluded: []string{"metamorph-system"}, Instance: "test",
		Reviewer:       &review.Reviewer{Engine: &policy.Engine{Inventory: &policy.Inventory{}}, Version: "v1.0.0", Options: policy.Options{Budget: time.Minute}},
		Metrics:        NewMetrics(f.registry),
		Log:            f.log.logger(),
		PagesPerSecond: math.MaxFloat64, // for the clock stands still
		Clock:          f.clock,
		Findings:       func(namespace, name string, found []policy.Finding) { f.found[namespace+"/"+name] = found },
	}
	f.use("")
	return f
}

// use puts a configuration of the policies in force.
func (f *fixture) use(config string) {
	f.Helper()
	files := map[string]string{"1.rego": rules, "2.rego": moreRules, "3.rego": leakyRules, "4.rego": brokenRules}
	bundle, err := (&policy.Loader{Schema: policy.InputSchema()}).Load(&policy.Source{Name: "test", Files: files})
	if err != nil {
		f.Fatal(err)
	}
	c, err := policy.ParseConfig("test", "config.yaml", []byte(config))
	if err != nil {
		f.Fatal(err)
	}
	set, err := policy.NewSet([]*policy.Bundle{bundle}, c)
	if err != nil {
		f.Fatal(err)
	}
	f.Reviewer.Engine.Use(set)
}

// audit audits once, completely.
func (f *fixture) audit() Summary {
	f.Helper()
	s, err := f.RunOnce(f.Context())
	if err != nil || s.Incomplete {
		f.Fatalf("incomplete %v: %v", s.Incomplete, err)
	}
	return s
}

// newEvents are those since it was asked last.
func (f *fixture) newEvents() []*eventsv1.Event {
	f.api.mu.Lock()
	defer f.api.mu.Unlock()
	all := f.api.events
	f.api.events = nil
	return all
}

// told are the new Events as namespace/name reason: note, in the order in which they were written.
func (f *fixture) told() []string {
	var out []string
	for _, e := range f.newEvents() {
		out = append(out, fmt.Sprintf("%s/%s %s: %s", e.Regarding.Namespace, e.Regarding.Name, e.Reason, e.Note))
	}
	return out
}

// set changes what is stored.
func (f *fixture) set(sets ...object) {
	f.api.mu.Lock()
	defer f.api.mu.Unlock()
	f.api.sets = sets
}

// plain is a set that nobody annotated, as a list holds it: without its kind.
func plain(name, image string, labels object) object {
	return object{
		"metadata": object{"namespace": "a", "name": name, "uid": "uid-" + name, "resourceVersion": "7", "labels": labels},
		"spec":     object{"replicas": 1, "template": object{"spec": object{"containers": []any{object{"name": "c", "image": image}}}}},
	}
}

// kafka is an expanded set.
func kafka(tb testing.TB, name string, labels object) object {
	tb.Helper()
	raw := mutate.Encode(object{"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": object{
		"namespace": "a", "name": name, "annotations": object{"metamorph.dev/role": "kafka"},
	}})
	out, err := mutate.Expand(mutate.Input{Object: raw, Namespace: mutate.Namespace{Name: "a"}, ClusterUID: "uid-kube-system", Version: "v1.0.0"})
	if err != nil {
		tb.Fatal(err)
	}
	obj := mutate.Defaulted(out.Object)
	md := obj["metadata"].(object)
	md["uid"], md["resourceVersion"] = "uid-"+name, "7"
	md["managedFields"] = []any{object{"manager": "kubectl", "fieldsV1": object{"f:spec": object{}}}}
	for k, v := range labels {
		md["labels"].(object)[k] = v
	}
	delete(obj, "apiVersion")
	delete(obj, "kind")
	return obj
}

// with is an object with other metadata.
func with(obj object, key string, v any) object {
	obj["metadata"].(object)[key] = v
	return obj
}
