package cluster

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/rest"
)

type object = map[string]any

// fakeAPI is as much of an API server as a watcher needs.
type fakeAPI struct {
	t testing.TB
	// streams tells that a watch may begin with a list.
	streams bool

	mu       sync.Mutex
	version  int
	kinds    map[string]*fakeKind // by path
	secrets  map[string]object    // by namespace/name
	requests []*http.Request
	// refuse answers requests whose path and query contain a text with a status.
	refuse map[string]int
	// hold, if not nil, makes the GET of a Secret wait for it.
	hold chan struct{}
}

type fakeKind struct {
	apiVersion, kind string
	objects          map[string]object
	watches          map[chan object]bool
}

var paths = map[string][2]string{
	"/api/v1/namespaces":                            {"v1", "Namespace"},
	"/apis/apps/v1/statefulsets":                    {"apps/v1", "StatefulSet"},
	"/apis/storage.k8s.io/v1/storageclasses":        {"storage.k8s.io/v1", "StorageClass"},
	"/api/v1/resourcequotas":                        {"v1", "ResourceQuota"},
	"/api/v1/limitranges":                           {"v1", "LimitRange"},
	"/apis/policy/v1/poddisruptionbudgets":          {"policy/v1", "PodDisruptionBudget"},
	"/apis/autoscaling/v2/horizontalpodautoscalers": {"autoscaling/v2", "HorizontalPodAutoscaler"},
}

// newFakeAPI starts one.
func newFakeAPI(t testing.TB, streams bool) (*fakeAPI, *rest.Config) {
	t.Helper()
	f := &fakeAPI{t: t, streams: streams, version: 1, kinds: map[string]*fakeKind{}, secrets: map[string]object{}, refuse: map[string]int{}}
	for path, k := range paths {
		f.kinds[path] = &fakeKind{apiVersion: k[0], kind: k[1], objects: map[string]object{}, watches: map[chan object]bool{}}
	}
	srv := httptest.NewServer(f)
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return f, &rest.Config{Host: srv.URL, QPS: -1}
}

func (f *fakeAPI) of(kind string) *fakeKind {
	for _, k := range f.kinds {
		if k.kind == kind {
			return k
		}
	}
	f.t.Fatalf("there is no kind %s", kind)
	return nil
}

// put stores an object and tells the watches.
func (f *fakeAPI) put(kind string, o object) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := f.of(kind)
	name := keyOf(o)
	event := "ADDED"
	if _, ok := k.objects[name]; ok {
		event = "MODIFIED"
	}
	f.store(k, name, o)
	k.tell(object{"type": event, "object": o})
}

// silently stores objects of a kind in the place of all others, as if nobody had been watching.
func (f *fakeAPI) silently(kind string, all ...object) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := f.of(kind)
	clear(k.objects)
	for _, o := range all {
		f.store(k, keyOf(o), o)
	}
}

func (f *fakeAPI) store(k *fakeKind, name string, o object) {
	f.version++
	o["apiVersion"], o["kind"] = k.apiVersion, k.kind
	o["metadata"].(object)["resourceVersion"] = strconv.Itoa(f.version)
	k.objects[name] = o
}

func (f *fakeAPI) remove(kind, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := f.of(kind)
	o := k.objects[name]
	delete(k.objects, name)
	f.version++
	o["metadata"].(object)["resourceVersion"] = strconv.Itoa(f.version)
	k.tell(object{"type": "DELETED", "object": o})
}

// expire ends the watches of a kind as an API server does that has forgotten what happened.
func (f *fakeAPI) expire(kind string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.of(kind).tell(object{"type": "ERROR", "object": status(http.StatusGone, "Expired")})
}

func (k *fakeKind) tell(event object) {
	for w := range k.watches {
		w <- event
	}
}

// set changes what is refused.
func (f *fakeAPI) set(text string, code int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuse[text] = code
}

// asked counts the requests whose path and query contain a text.
func (f *fakeAPI) asked(text string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.requests {
		if strings.Contains(r.URL.String(), text) {
			n++
		}
	}
	return n
}

func keyOf(o object) string {
	md := o["metadata"].(object)
	if ns, ok := md["namespace"]; ok {
		return fmt.Sprint(ns, "/", md["name"])
	}
	return fmt.Sprint(md["name"])
}

// ServeHTTP implements [http.Handler].
func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.requests = append(f.requests, r)
	k := f.kinds[r.URL.Path]
	code := 0
	for text, c := range f.refuse {
		if strings.Contains(r.URL.String(), text) {
			code = max(code, c)
		}
	}
	hold := f.hold
	f.mu.Unlock()
	switch {
	case code != 0:
		reply(w, code, status(code, map[int]string{403: "Forbidden", 404: "NotFound", 429: "TooManyRequests", 500: "InternalError"}[code]))
	case k != nil && r.URL.Query().Get("watch") != "":
		f.watch(w, r, k)
	case k != nil:
		f.list(w, r, k)
	case strings.Contains(r.URL.Path, "/secrets/"):
		if hold != nil {
			<-hold
		}
		part := strings.Split(r.URL.Path, "/")
		f.mu.Lock()
		defer f.mu.Unlock()
		if s := f.secrets[part[4]+"/"+part[6]]; s != nil {
			reply(w, http.StatusOK, s)
			return
		}
		reply(w, http.StatusNotFound, status(http.StatusNotFound, "NotFound"))
	default:
		http.NotFound(w, r)
	}
}

// selected are the objects that a request is for, in the order of their names.
func (f *fakeAPI) selected(r *http.Request, k *fakeKind) (names []string) {
	label := r.URL.Query().Get("labelSelector")
	for name, o := range k.objects {
		labels, _ := o["metadata"].(object)["labels"].(object)
		if label == "" || labels[label] != nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (f *fakeAPI) list(w http.ResponseWriter, r *http.Request, k *fakeKind) {
	f.mu.Lock()
	defer f.mu.Unlock()
	names := f.selected(r, k)
	q := r.URL.Query()
	from, _ := slices.BinarySearch(names, q.Get("continue"))
	names = names[from:]
	md := object{"resourceVersion": strconv.Itoa(f.version)}
	// As a real one does, it ignores the limit when it may answer from its cache.
	if limit, _ := strconv.Atoi(q.Get("limit")); limit > 0 && limit < len(names) && q.Get("resourceVersion") != "0" {
		md["continue"] = names[limit]
		names = names[:limit]
	}
	items := []object{}
	for _, n := range names {
		items = append(items, k.objects[n])
	}
	reply(w, http.StatusOK, object{"apiVersion": k.apiVersion, "kind": k.kind + "List", "metadata": md, "items": items})
}

func (f *fakeAPI) watch(w http.ResponseWriter, r *http.Request, k *fakeKind) {
	streamed := r.URL.Query().Get("sendInitialEvents") == "true"
	if streamed && !f.streams {
		reply(w, http.StatusUnprocessableEntity, status(http.StatusUnprocessableEntity, "Invalid"))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	events := make(chan object, 100)
	f.mu.Lock()
	if streamed {
		for _, n := range f.selected(r, k) {
			_ = enc.Encode(object{"type": "ADDED", "object": k.objects[n]})
		}
		_ = enc.Encode(object{"type": "BOOKMARK", "object": object{
			"apiVersion": k.apiVersion, "kind": k.kind,
			"metadata": object{"resourceVersion": strconv.Itoa(f.version), "annotations": object{"k8s.io/initial-events-end": "true"}},
		}})
	}
	k.watches[events] = true
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(k.watches, events)
	}()
	w.(http.Flusher).Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case e := <-events:
			f.mu.Lock()
			_ = enc.Encode(e)
			f.mu.Unlock()
			w.(http.Flusher).Flush()
			if e["type"] == "ERROR" {
				return
			}
		}
	}
}

func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}

func status(code int, reason string) object {
	return object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": "refused: " + reason}
}

// watched tells whether somebody watches a kind.
func (f *fakeAPI) watched(kind string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.of(kind).watches) > 0
}
