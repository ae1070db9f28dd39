package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"testing"

	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/metamorph-k8s/metamorph/pkg/mutate"
	"github.com/metamorph-k8s/metamorph/pkg/policy"
)

// placeholder is the name of a set in the template.
const placeholder = "set-nnnnnn"

// generated serves a list of as many sets as are wanted, without having them.
type generated struct {
	sets     int
	template []byte
}

func newGenerated(tb testing.TB, sets int) *generated {
	tb.Helper()
	return &generated{sets: sets, template: mutate.Encode(kafka(tb, placeholder, object{"warn": "w"}))}
}

// ServeHTTP implements [http.Handler].
func (g *generated) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	from, _ := strconv.Atoi(r.URL.Query().Get("continue"))
	to := min(from+limit, g.sets)
	next := ""
	if to < g.sets {
		next = strconv.Itoa(to)
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"kind":"StatefulSetList","apiVersion":"apps/v1","metadata":{"continue":%q},"items":[`, next)
	for i := from; i < to; i++ {
		if i > from {
			fmt.Fprint(w, ",")
		}
		_, _ = w.Write(bytes.ReplaceAll(g.template, []byte(placeholder), fmt.Appendf(nil, "set-%06d", i)))
	}
	fmt.Fprint(w, "]}")
}

// counting counts Events, and keeps none.
type counting int

func (c *counting) Record(context.Context, *eventsv1.Event) error { *c++; return nil }

// liveHeap audits a cluster of which an Event told of every object, each of which has changed since, and measures what is
// alive when the last page is there, over what was before the audits.
func liveHeap(t *testing.T, sets int) (live, perPage int) {
	t.Helper()
	f := newFixture(t)
	g := newGenerated(t, sets)
	srv := httptest.NewServer(g)
	defer srv.Close()
	var err error
	if f.Reader, err = NewReader(&rest.Config{Host: srv.URL, QPS: -1}); err != nil {
		t.Fatal(err)
	}
	f.Recorder = new(counting)
	judged := 0
	before := heap()
	f.Auditor.told = map[types.UID]uint64{}
	for i := range sets {
		f.Auditor.told[types.UID(fmt.Sprintf("uid-set-%06d", i))] = 1
	}
	f.Findings = func(string, string, []policy.Finding) {
		if judged++; judged == sets-pageSize+1 {
			live = heap() - before
		}
	}
	if s := f.audit(); s.Objects != sets || s.Findings[policy.Warn] != sets || s.Events != DefaultMaxEvents || len(f.Auditor.told) != sets {
		t.Fatalf("%+v, %d are remembered", s, len(f.Auditor.told))
	}
	return live, len(g.template) * pageSize
}

func heap() int {
	runtime.GC()
	runtime.GC() // the first leaves what has finalisers
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc) //nolint:gosec // not that large
}

// TestMemory: an audit of a large cluster takes the memory of one of a small cluster, but for a few numbers an object.
func TestMemory(t *testing.T) {
	const few, many = 100, 5000
	liveHeap(t, few) // whatever is made once
	small, page := liveHeap(t, few)
	large, _ := liveHeap(t, many)
	t.Logf("with %d sets %d KiB are alive, with %d sets %d KiB, %d bytes for each more; a page has %d KiB", few, small>>10, many, large>>10, (large-small)/(many-few), page>>10)
	if large > 2*small {
		t.Errorf("with %d sets %d KiB are alive, with %d sets %d KiB", few, small>>10, many, large>>10)
	}
	if small > 4*page {
		t.Errorf("%d KiB are alive for a page of %d KiB", small>>10, page>>10)
	}
}

// BenchmarkAudit measures a page of expanded sets, each with a finding, from the API server's answer on.
func BenchmarkAudit(b *testing.B) {
	f := newFixture(b)
	f.Reader = &onePage{newGenerated(b, pageSize)}
	f.Findings, f.Recorder = nil, new(counting)
	b.ReportAllocs()
	for b.Loop() {
		f.audit()
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*pageSize), "µs/object")
}

type onePage struct{ g *generated }

func (p *onePage) Page(context.Context, int, string) (*Page, error) {
	page := &Page{Items: make([]json.RawMessage, p.g.sets)}
	for i := range page.Items {
		page.Items[i] = bytes.ReplaceAll(p.g.template, []byte(placeholder), fmt.Appendf(nil, "set-%06d", i))
	}
	return page, nil
}
