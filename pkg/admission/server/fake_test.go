package server_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/rest"
)

// fakeAPI is as much of an API server as the caches need. Objects are JSON by name.
type fakeAPI struct {
	URL string

	// namespaces are listed and watched; late ones are found by a GET only, as if the cache were behind.
	namespaces, late map[string]object
	// profiles are the ConfigMaps in metamorph-system; late ones are found by a list for their label only.
	profiles, lateProfiles []object
	// hold, if not nil, makes the GET of the namespace slow wait for it; held is told of each.
	hold, held chan struct{}

	mu         sync.Mutex
	registered []map[string]any
	validating []map[string]any
	paths      map[string]bool
}

type object map[string]any

func namespace(name, uid string, annotations object) object {
	return object{
		"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
		"metadata": object{"name": name, "uid": uid, "annotations": annotations, "resourceVersion": "1"},
	}
}

func profile(configMap, name string, data object) object {
	return object{
		"kind": "ConfigMap", "apiVersion": "v1", "data": data,
		"metadata": object{"name": configMap, "namespace": "metamorph-system", "labels": object{"metamorph.dev/profile": name}, "resourceVersion": "1"},
	}
}

// start serves it until the test ends.
func (f *fakeAPI) start(t testing.TB) *rest.Config {
	t.Helper()
	f.paths = map[string]bool{}
	if f.namespaces == nil {
		f.namespaces = map[string]object{
			"kube-system": namespace("kube-system", "cluster-uid", nil), "default": namespace("default", "d", nil),
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/namespaces", func(w http.ResponseWriter, r *http.Request) {
		var all []object
		for _, ns := range f.namespaces {
			all = append(all, ns)
		}
		list(w, r, "PartialObjectMetadata", "meta.k8s.io/v1", all)
	})
	mux.HandleFunc("GET /api/v1/namespaces/{name}", func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("name")
		if name == "slow" && f.hold != nil {
			f.held <- struct{}{}
			<-f.hold
		}
		ns, ok := f.late[name]
		if !ok {
			notFound(w, name)
			return
		}
		write(w, ns)
	})
	mux.HandleFunc("GET /api/v1/namespaces/metamorph-system/configmaps", func(w http.ResponseWriter, r *http.Request) {
		all := f.profiles
		if strings.Contains(r.URL.Query().Get("labelSelector"), "=") {
			all = append(all, f.lateProfiles...)
		}
		list(w, r, "ConfigMap", "v1", all)
	})
	f.registrations(mux, "mutatingwebhookconfigurations", &f.registered)
	f.registrations(mux, "validatingwebhookconfigurations", &f.validating)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.paths[r.Method+" "+r.URL.Path] = true
		f.mu.Unlock()
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	f.URL = srv.URL
	return &rest.Config{Host: srv.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}
}

// registrations keeps all that is written of a kind of registration.
func (f *fakeAPI) registrations(mux *http.ServeMux, resource string, saved *[]map[string]any) {
	at := "/apis/admissionregistration.k8s.io/v1/" + resource
	mux.HandleFunc("GET "+at+"/{name}", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(*saved) == 0 {
			notFound(w, r.PathValue("name"))
			return
		}
		write(w, (*saved)[len(*saved)-1])
	})
	save := func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		var o map[string]any
		if err := json.Unmarshal(raw, &o); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		*saved = append(*saved, o)
		write(w, o)
	}
	mux.HandleFunc("POST "+at, save)
	mux.HandleFunc("PUT "+at+"/{name}", save)
}

// list answers a list, or a watch that begins with one.
func list(w http.ResponseWriter, r *http.Request, kind, version string, items []object) {
	if r.URL.Query().Get("watch") == "" {
		if items == nil {
			items = []object{}
		}
		write(w, object{"kind": kind + "List", "apiVersion": version, "metadata": object{"resourceVersion": "1"}, "items": items})
		return
	}
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	if r.URL.Query().Get("sendInitialEvents") == "true" {
		for _, o := range items {
			_ = enc.Encode(object{"type": "ADDED", "object": o})
		}
		_ = enc.Encode(object{"type": "BOOKMARK", "object": object{
			"kind": kind, "apiVersion": version, "metadata": object{"resourceVersion": "1", "annotations": object{"k8s.io/initial-events-end": "true"}},
		}})
	}
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

func write(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func notFound(w http.ResponseWriter, name string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusNotFound)
	_ = json.NewEncoder(w).Encode(object{
		"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404, "message": name + " not found",
	})
}
