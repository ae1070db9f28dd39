package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/metamorph-k8s/metamorph/pkg/policy"
)

// patience is how long something may take that takes a moment, on a machine that is busy with other things.
const patience = time.Minute

// fixture is a running watcher.
type fixture struct {
	testing.TB
	*Watcher

	api       *fakeAPI
	inventory *policy.Inventory
	clock     *clocktesting.FakeClock
	log       *lines
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

// with counts the lines that contain all of some texts.
func (l *lines) with(texts ...string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.all {
		if !slices.ContainsFunc(texts, func(t string) bool { return !strings.Contains(line, t) }) {
			n++
		}
	}
	return n
}

// modes are the two ways in which a reflector lists.
var modes = map[string]bool{"a list in pages": false, "a list that is streamed": true}

func newFixture(t testing.TB, streams bool, o Options) *fixture {
	t.Helper()
	api, config := newFakeAPI(t, streams)
	f := &fixture{TB: t, api: api, inventory: &policy.Inventory{}, clock: clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)), log: &lines{}}
	o.Clock, o.Log = f.clock, f.log.logger()
	w, err := New(config, f.inventory, o)
	if err != nil {
		t.Fatal(err)
	}
	f.Watcher = w
	return f
}

// run runs the watcher until the test ends.
func (f *fixture) run() *fixture {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = f.Run(ctx)
	}()
	f.Cleanup(func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(patience):
			f.Error("the watcher does not end with its context")
		}
	})
	return f
}

func (f *fixture) sync() {
	f.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if !f.WaitForSync(ctx) {
		f.Fatal("not synced")
	}
}

func (f *fixture) eventually(what string, holds func() bool) {
	f.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for !holds() {
		select {
		case <-tick.C:
		case <-end:
			f.Fatalf("not within %s: %s\nseen: %v\nlog:\n%s", patience, what, f.seen(), strings.Join(f.log.all, "\n"))
		}
	}
}

// retry lets the time pass after which a kind that failed is asked for again.
func (f *fixture) retry() {
	f.Helper()
	f.eventually("somebody waits for a retry", f.clock.HasWaiters)
	f.clock.Step(2 * retryMost)
}

// seen is data.cluster as a policy sees it.
func (f *fixture) seen() object {
	f.Helper()
	const rego = `# METADATA
# title: shows what policies see
# custom: {code: TEST-1, match: {roles: [plain]}}
package test.seen

deny contains json.marshal(data.cluster)
`
	bundle, err := (&policy.Loader{}).Load(&policy.Source{Name: "test", Files: map[string]string{"seen.rego": rego}})
	if err != nil {
		f.Fatal(err)
	}
	set, err := policy.NewSet([]*policy.Bundle{bundle})
	if err != nil {
		f.Fatal(err)
	}
	view := policy.NewView(policy.Input{Operation: policy.Create, Object: object{"kind": "StatefulSet"}})
	findings := set.Evaluate(context.Background(), view, policy.Options{Inventory: f.inventory, Budget: patience})
	var all object
	if err := json.Unmarshal([]byte(findings[0].Message), &all); err != nil {
		f.Fatal(findings[0].Message)
	}
	return all
}

// sees tells whether a kind is known and looks like this.
func (f *fixture) sees(kind string, want object) bool {
	got, ok := f.seen()[kind]
	return ok && cmp.Equal(got, any(want))
}

func (f *fixture) knows(kind string) bool { _, ok := f.seen()[kind]; return ok }

func class(name, provisioner string) object {
	return object{"metadata": object{"name": name, "managedFields": []any{object{"manager": "kubectl"}}}, "provisioner": provisioner, "parameters": object{"type": "fast"}}
}

func quota(namespace, name, cpu string) object {
	return object{"metadata": object{"namespace": namespace, "name": name}, "spec": object{"hard": object{"cpu": cpu}}}
}

func classSeen(name, provisioner string) object {
	return object{"metadata": object{"name": name}, "provisioner": provisioner}
}

func quotaSeen(namespace, name string, cpu float64) object {
	return object{"metadata": object{"namespace": namespace, "name": name}, "spec": object{"hard": object{"cpu": cpu}}}
}

// managed is an expanded StatefulSet, as far as documents need one.
func managed(name string) object {
	return object{"metadata": object{
		"namespace": "a", "name": name, "labels": object{nameLabel: name},
		"annotations": object{"metamorph.dev/role": "kafka", "metamorph.dev/source": "{}", "metamorph.dev/settings": `{"heap":{"value":"1Gi"}}`},
	}, "spec": object{"replicas": 3}}
}

func TestFollowsTheCluster(t *testing.T) {
	t.Parallel()
	for name, streams := range modes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, streams, Options{})
			f.api.silently("StorageClass", class("slow", "disk"), class("fast", "ssd"))
			f.api.silently("ResourceQuota", quota("a", "q", "4"), quota("b", "q", "500m"))
			plain := managed("plain")
			plain["metadata"].(object)["labels"] = object{}
			f.api.silently("StatefulSet", managed("events"), plain)
			if f.Synced() || len(f.seen()) > 0 {
				t.Fatalf("synced %v, seen %v before the start", f.Synced(), f.seen())
			}
			f.run().sync()
			got := f.seen()
			delete(got["StatefulSet"].(object)["a"].(object)["events"].(object), "settings")
			want := object{
				"Namespace": object{}, "LimitRange": object{}, "PodDisruptionBudget": object{}, "HorizontalPodAutoscaler": object{},
				"StorageClass":  object{"slow": classSeen("slow", "disk"), "fast": classSeen("fast", "ssd")},
				"ResourceQuota": object{"a": object{"q": quotaSeen("a", "q", 4)}, "b": object{"q": quotaSeen("b", "q", 0.5)}},
				"StatefulSet": object{"a": object{"events": object{
					"metadata": object{"namespace": "a", "name": "events", "labels": object{nameLabel: "events"}}, "role": "kafka", "replicas": 3.0,
				}}},
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Fatalf("-want +got:\n%s", d)
			}

			for _, kind := range []string{"ResourceQuota", "StorageClass", "StatefulSet"} { // the fake forgets what nobody watched
				f.eventually("a watch", func() bool { return f.api.watched(kind) })
			}
			f.api.put("ResourceQuota", quota("a", "q", "8"))
			f.api.put("ResourceQuota", quota("c", "new", "1"))
			f.api.remove("ResourceQuota", "b/q")
			f.eventually("an update, an addition and a deletion", func() bool {
				return f.sees("ResourceQuota", object{"a": object{"q": quotaSeen("a", "q", 8)}, "c": object{"new": quotaSeen("c", "new", 1)}})
			})
			f.api.remove("StorageClass", "slow")
			f.api.remove("StorageClass", "fast")
			f.eventually("no class is left, which is not the same as unknown", func() bool { return f.sees("StorageClass", object{}) })
			let := managed("events")
			let["metadata"].(object)["annotations"] = object{"metamorph.dev/cluster-id": "x"}
			f.api.put("StatefulSet", let)
			f.eventually("a set that was let go of is of no interest", func() bool { return f.sees("StatefulSet", object{}) })
		})
	}
}

// TestRelist: what was deleted while nobody watched goes, what was changed is seen.
func TestRelist(t *testing.T) {
	t.Parallel()
	for name, streams := range modes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, streams, Options{})
			f.api.silently("StorageClass", class("gone", "x"), class("kept", "x"), class("changed", "x"))
			f.run().sync()
			f.eventually("a watch", func() bool { return f.api.watched("StorageClass") })
			f.api.silently("StorageClass", class("kept", "x"), class("changed", "y"), class("new", "x"))
			f.api.expire("StorageClass")
			f.retry()
			f.eventually("the new list", func() bool {
				return f.sees("StorageClass", object{"kept": classSeen("kept", "x"), "changed": classSeen("changed", "y"), "new": classSeen("new", "x")})
			})
		})
	}
}

// TestPages: a list comes in pages, from the first on.
func TestPages(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false, Options{})
	var all []object
	for i := range 2*pageSize + 1 {
		all = append(all, class(fmt.Sprintf("class-%04d", i), "x"))
	}
	f.api.silently("StorageClass", all...)
	f.run().sync()
	if n := len(f.seen()["StorageClass"].(object)); n != len(all) {
		t.Errorf("%d of %d are seen", n, len(all))
	}
	if n := f.api.asked("storageclasses?limit=500"); n != 1 { // and no resourceVersion, which would be the first parameter but one
		t.Errorf("%d first pages", n)
	}
	if n := f.api.asked("storageclasses?continue="); n != 2 {
		t.Errorf("%d further pages, want 2", n)
	}
	if n := f.api.asked("statefulsets?labelSelector=metamorph.dev%2Fname&limit=500"); n != 1 {
		t.Errorf("%d lists of StatefulSets with our label, want 1", n)
	}
}

// TestRefused: a kind that cannot be read stays unknown, and keeps no other waiting.
func TestRefused(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]int{"forbidden": http.StatusForbidden, "not served": http.StatusNotFound} {
		for mode, streams := range modes {
			t.Run(name+", "+mode, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t, streams, Options{})
				f.api.set("/storageclasses", code)
				f.api.silently("StorageClass", class("slow", "disk"))
				f.api.silently("Namespace", object{"metadata": object{"name": "a"}})
				f.run().sync()
				if f.knows("StorageClass") {
					t.Error("a kind that cannot be read is known")
				}
				if !f.sees("Namespace", object{"a": object{"metadata": object{"name": "a"}}}) {
					t.Errorf("the others are not seen: %v", f.seen())
				}
				// It is tried again, and told about once a minute.
				before := f.api.asked("storageclasses")
				f.retry()
				f.eventually("a second try", func() bool { return f.api.asked("storageclasses") > before })
				f.eventually("the end of the second try", f.clock.HasWaiters)
				if n := f.log.with("StorageClass", "May not watch"); n < 1 || n > 2 {
					t.Errorf("told %d times in a minute, or as good as one:\n%s", n, strings.Join(f.log.all, "\n"))
				}
				f.api.set("/storageclasses", 0)
				f.retry()
				f.eventually("it is known once it can be read", func() bool { return f.sees("StorageClass", object{"slow": classSeen("slow", "disk")}) })

				// If the right is taken away later, policies see what was.
				f.eventually("a watch", func() bool { return f.api.watched("StorageClass") })
				f.api.set("/storageclasses", code)
				f.api.expire("StorageClass")
				f.retry()
				f.eventually("that is told", func() bool { return f.log.with("StorageClass", "May no longer watch") > 0 })
				if !f.knows("StorageClass") {
					t.Error("it is unknown again")
				}
			})
		}
	}
}

// TestFailing: an API server that fails has given no answer.
func TestFailing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true, Options{})
	f.api.set("/limitranges", http.StatusInternalServerError)
	f.run()
	f.eventually("all others are known", func() bool { return len(f.seen()) == len(f.kinds)-1 })
	f.eventually("a failure is told", func() bool { return f.log.with("LimitRange", "Could not watch") == 1 })
	if f.Synced() {
		t.Error("synced without an answer about LimitRange")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if f.WaitForSync(ctx) {
		t.Error("WaitForSync says what Synced does not")
	}
	f.api.set("/limitranges", 0)
	f.retry()
	f.sync()
	if !f.sees("LimitRange", object{}) {
		t.Errorf("%v", f.seen())
	}
}

// TestNoAPIServer: without one the watcher ends with its context all the same, and does not wait for a retry.
func TestNoAPIServer(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true, Options{})
	_, config := newFakeAPI(t, true)
	config.Host = "127.0.0.1:1" // nobody listens on the port of tcpmux
	w, err := New(config, f.inventory, Options{Log: f.log.logger(), Clock: f.clock})
	if err != nil {
		t.Fatal(err)
	}
	f.Watcher = w
	f.run()
	f.eventually("a failure of each kind", func() bool { return f.log.with("Could not watch") == len(w.kinds) })
	if f.Synced() || len(f.seen()) > 0 {
		t.Errorf("synced %v, seen %v", f.Synced(), f.seen())
	}
}

// TestBadObjects: one that cannot be shown is told by name, and leaves the others alone.
func TestBadObjects(t *testing.T) {
	t.Parallel()
	var l lines
	inventory := &policy.Inventory{}
	k := &kind{log: l.logger(), store: store{inventory: inventory, kind: "StorageClass", have: map[key]uint64{}}, answered: func() {}}
	r := &reflected{k}
	good := &document{seen: object{"provisioner": "x"}}
	good.Name = "good"
	bad := &document{seen: object{"provisioner": func() {}}}
	bad.Name = "bad"
	for range 2 {
		if err := r.Replace([]any{good, bad}, "1"); err != nil {
			t.Fatal(err)
		}
	}
	if n := inventory.Len(); n != 1 {
		t.Errorf("%d objects, want 1", n)
	}
	if n := l.with(`"name"="bad"`, "left out"); n != 2 {
		t.Errorf("told %d times:\n%s", n, strings.Join(l.all, "\n"))
	}
	// A version that cannot be shown does not leave the one before behind.
	now := &document{seen: object{"provisioner": make(chan int)}}
	now.Name = "good"
	if err := r.Update(now); err != nil {
		t.Fatal(err)
	}
	if n := inventory.Len(); n != 0 {
		t.Errorf("%d objects, want none", n)
	}
	for what, err := range map[string]error{"Add": r.Add("x"), "Delete": r.Delete("x"), "Replace": r.Replace([]any{"x"}, "1")} {
		if err == nil {
			t.Errorf("%s takes what is no object", what)
		}
	}
	if _, err := safely(func() (map[string]any, error) { panic("hunter2") }); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a panic: %v", err)
	}
}

// TestUnchanged: an object of which policies see no change is not written again.
func TestUnchanged(t *testing.T) {
	t.Parallel()
	inventory := &policy.Inventory{}
	s := store{inventory: inventory, kind: "StorageClass", have: map[key]uint64{}}
	put := func(provisioner string) int {
		t.Helper()
		if err := s.put(key{name: "x"}, object{"provisioner": provisioner, "a": object{"b": 1.0, "c": nil}}); err != nil {
			t.Fatal(err)
		}
		return inventory.Len()
	}
	if n := put("disk"); n != 1 {
		t.Errorf("%d objects after the first", n)
	}
	inventory.Remove("StorageClass", "", "x") // behind its back, to see whether it is written
	if n := put("disk"); n != 0 {
		t.Error("it is written again without a change")
	}
	if n := put("ssd"); n != 1 {
		t.Error("a change is not written")
	}
}

// TestMemory: of large objects only the documents stay.
func TestMemory(t *testing.T) {
	for name, streams := range modes {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, streams, Options{})
			const n = 24
			before := heap()
			var all []object
			for i := range n {
				all = append(all, object{"metadata": object{
					"name": fmt.Sprintf("ns-%d", i), "labels": object{"team": "a"}, "annotations": object{"large": strings.Repeat("x", 1<<20), "small": "y"},
				}})
			}
			f.api.silently("Namespace", all...)
			f.run().sync()
			clear(all)
			f.api.silently("Namespace") // the API server's own copies
			if d := cmp.Diff(object{"metadata": object{"name": "ns-7", "labels": object{"team": "a"}, "annotations": object{"small": "y"}}}, f.seen()["Namespace"].(object)["ns-7"]); d != "" {
				t.Fatal(d)
			}
			if grown := int(heap()) - int(before); grown > 8<<20 {
				t.Errorf("%d objects of 1 MiB leave %d KiB behind", n, grown>>10)
			} else {
				t.Logf("%d objects of 1 MiB leave %d KiB behind, all else included", n, grown>>10)
			}
		})
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC() // the first leaves what has finalisers
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkNamespaces measures what a Namespace with three labels and three annotations costs in the inventory.
func BenchmarkNamespaces(b *testing.B) {
	for b.Loop() {
		const n = 10_000
		inventory := &policy.Inventory{}
		k := &kind{store: store{inventory: inventory, kind: "Namespace", have: map[key]uint64{}}, answered: func() {}}
		r := &reflected{k}
		before := heap()
		for i := range n {
			d := &document{seen: object{"metadata": object{
				"name": fmt.Sprintf("namespace-%d", i), "labels": object{"team": fmt.Sprintf("team-%d", i), "kubernetes.io/metadata.name": fmt.Sprintf("namespace-%d", i), "tier": "gold"},
				"annotations": object{"a": fmt.Sprint(i), "b": "x", "c": "y"},
			}}}
			d.Name = fmt.Sprintf("namespace-%d", i)
			if err := r.Add(d); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(heap()-before)/n, "heap-B/object")
		runtime.KeepAlive(k)
	}
}
