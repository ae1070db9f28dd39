package companion_test

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/json"

	"github.com/metamorph-k8s/metamorph/pkg/audit"
	"github.com/metamorph-k8s/metamorph/pkg/companion"
	"github.com/metamorph-k8s/metamorph/pkg/mutate"
	"github.com/metamorph-k8s/metamorph/test/program"
)

// managed is how many StatefulSets there are.
const managed = 500

// counting counts requests, by whether they store something. An access review is a question.
type counting struct {
	http.RoundTripper

	reads, writes *atomic.Int64
	// last is what was written last, for the message of a failure.
	last *atomic.Value
}

func (c counting) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet || strings.HasSuffix(r.URL.Path, "/selfsubjectaccessreviews") {
		c.reads.Add(1)
	} else {
		c.writes.Add(1)
		c.last.Store(r.Method + " " + r.URL.String())
	}
	return c.RoundTripper.RoundTrip(r)
}

// TestManyClusters has a controller meet 500 StatefulSets at once, then another one meet them when all is done: that one may
// write nothing.
func TestManyClusters(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	c := program.NewLargeCluster(t)
	client, err := kubernetes.NewForConfig(c.Config)
	if err != nil {
		t.Fatal(err)
	}
	c.Must("", "create", "namespace", "many")
	for i := range managed {
		if _, err := client.AppsV1().StatefulSets("many").Create(t.Context(), expandedSet(t, fmt.Sprintf("events-%d", i)), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	begin := heap()
	first := meet(t, c, client)
	if first.done != managed {
		t.Fatalf("after a minute and more %d of %d are done", first.done, managed)
	}
	t.Logf("%d StatefulSets: all companions after %s (%s each), %d reads, %d writes; live heap %d KiB (%d B each)",
		managed, first.took.Round(time.Millisecond), (first.took / managed).Round(10*time.Microsecond), first.reads, first.writes, (first.heap-begin)>>10, (first.heap-begin)/managed)

	second := meet(t, c, client)
	t.Logf("another controller: caches after %s, %d reads, %d writes", second.took.Round(time.Millisecond), second.reads, second.writes)
	// The lists of the caches, and of every set both Secrets and the other budgets.
	if second.writes != 0 || second.reads > 4*managed {
		t.Errorf("%d writes and %d reads, although nothing was to be done; the last one: %s", second.writes, second.reads, second.last)
	}
}

type meeting struct {
	done                int
	took                time.Duration
	reads, writes, heap int64
	last                string
}

// meet runs a controller until every set has conditions, and it has been quiet for a while.
func meet(t *testing.T, c *program.Cluster, client kubernetes.Interface) meeting {
	t.Helper()
	var reads, writes atomic.Int64
	var lastWrite atomic.Value
	config := rest.CopyConfig(c.Config)
	config.Wrap(func(rt http.RoundTripper) http.RoundTripper { return counting{rt, &reads, &writes, &lastWrite} })
	recorder, err := audit.NewRecorder(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	synced := make(chan struct{})
	began := time.Now()
	go func() {
		ended <- companion.Run(ctx, companion.Options{Config: config, Recorder: recorder, Log: testr.New(t), Synced: func() { close(synced) }})
	}()
	<-synced
	var m meeting
	quiet, last := 0, int64(-1)
	_ = wait.PollUntilContextTimeout(ctx, 250*time.Millisecond, 3*time.Minute, true, func(ctx context.Context) (bool, error) {
		if now := reads.Load() + writes.Load(); now != last {
			m.took = time.Since(began)
			quiet, last = 0, now
		} else {
			quiet++
		}
		return quiet == 8, nil
	})
	sets, err := client.AppsV1().StatefulSets("many").List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range sets.Items {
		if len(companion.Conditions(sets.Items[i].Annotations)) == 2 {
			m.done++
		}
	}
	m.heap = heap()
	m.reads, m.writes = reads.Load(), writes.Load()
	m.last, _ = lastWrite.Load().(string)
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("the controller: %v", err)
	}
	return m
}

// heap is what is in use.
func heap() int64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc) //nolint:gosec // It fits.
}

// expandedSet is what the webhook makes of three lines.
func expandedSet(t *testing.T, name string) *appsv1.StatefulSet {
	t.Helper()
	out, err := mutate.Expand(mutate.Input{
		Object:     []byte(strings.ReplaceAll(`{"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "NAME", "annotations": {"metamorph.dev/role": "kafka"}}, "spec": {"replicas": 3}}`, "NAME", name)),
		Namespace:  mutate.Namespace{Name: "many"},
		ClusterUID: "uid", Version: "v0.0.0",
	})
	if err != nil {
		t.Fatal(err)
	}
	set := &appsv1.StatefulSet{}
	if err := json.UnmarshalCaseSensitivePreserveInts(mutate.Encode(out.Object), set); err != nil {
		t.Fatal(err)
	}
	return set
}
