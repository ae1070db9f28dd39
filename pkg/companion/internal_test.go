package companion

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	testingclock "k8s.io/utils/clock/testing"

	"github.com/metamorph-k8s/metamorph/pkg/companion/object"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

func TestOneLine(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                          "",
		" two\nlines\t. \n":         "two lines",
		"\x1b[31mred\x00":           "[31mred",
		"bad \xff utf":              "bad utf",
		`x password="a b",y`:        `x password=…,y`,
		"ssl.key.password=abc rest": "ssl.key.password=… rest",
		"Secret: x":                 "Secret: …",
		"Fatal\njava.lang.A: b\n\tat x.y(Z.java:1)\n\t... 2 more\nCaused by: java.net.C: in use\n\tat d.e(F.java)\n": "Fatal java.lang.A: b Caused by: java.net.C: in use",
		"the password is wrong":   "the password is wrong",
		`password="never closed`:  `password=… closed`,
		strings.Repeat("ä", 1000): "… " + strings.Repeat("ä", maxFound/2),
	} {
		if got := oneLine(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func FuzzOneLine(f *testing.F) {
	f.Add("org.apache.kafka.common.KafkaException: Socket server failed to bind to 0.0.0.0:9092: Address already in use.\n")
	f.Add("password=\"x\" token: y\x00\xff")
	f.Fuzz(func(t *testing.T, text string) {
		got := oneLine(text)
		if !utf8.ValidString(got) || strings.ContainsAny(got, "\n\r\x00\x1b") || len(got) > maxFound+len("… ") {
			t.Errorf("%q", got)
		}
	})
}

func TestWithin(t *testing.T) {
	t.Parallel()
	port := func(n int64, more ...string) map[string]any {
		m := map[string]any{"port": n}
		for _, k := range more {
			m[k] = "x"
		}
		return m
	}
	for name, c := range map[string]struct {
		a, b map[string]any
		want bool
	}{
		"equal":              {map[string]any{"a": int64(1)}, map[string]any{"a": int64(1)}, true},
		"more is fine":       {map[string]any{"a": int64(1)}, map[string]any{"a": int64(1), "b": "x"}, true},
		"less is not":        {map[string]any{"a": int64(1), "b": "x"}, map[string]any{"a": int64(1)}, false},
		"another value":      {map[string]any{"a": map[string]any{"b": "x"}}, map[string]any{"a": map[string]any{"b": "y"}}, false},
		"another type":       {map[string]any{"a": map[string]any{"b": "x"}}, map[string]any{"a": []any{}}, false},
		"defaults in a list": {map[string]any{"p": []any{port(1)}}, map[string]any{"p": []any{port(1, "protocol")}}, true},
		"a user's port":      {map[string]any{"p": []any{port(1)}}, map[string]any{"p": []any{port(2), port(1)}}, true},
		"a port is missing":  {map[string]any{"p": []any{port(1), port(2)}}, map[string]any{"p": []any{port(2)}}, false},
		"owners have a look": {map[string]any{"ownerReferences": "x"}, map[string]any{}, true},
	} {
		if got := within(c.a, c.b); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestKeepScale: what a user made of the ensemble's scale stays, until the cluster asks for another one.
func TestKeepScale(t *testing.T) {
	t.Parallel()
	of := func(replicas int64, applied string) *unstructured.Unstructured {
		u := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"replicas": replicas}}}
		u.SetAnnotations(map[string]string{appliedAnnotation: applied})
		return u
	}
	for name, c := range map[string]struct {
		have, want *unstructured.Unstructured
		replicas   int64
		applied    string
	}{
		"scaled by its user":      {of(5, "old/3"), of(3, ""), 5, "new/3"},
		"asked for another scale": {of(3, "old/3"), of(5, ""), 5, "new/5"},
		"asked and scaled":        {of(7, "old/3"), of(5, ""), 5, "new/5"},
		"no record":               {of(5, ""), of(3, ""), 3, "new/3"},
	} {
		applied := keepScale(c.have, c.want, "new")
		if n, _, _ := unstructured.NestedInt64(c.want.Object, "spec", "replicas"); n != c.replicas || applied != c.applied {
			t.Errorf("%s: %d, %s", name, n, applied)
		}
	}
	if hashOf(of(3, "").Object) != hashOf(of(5, "").Object) {
		t.Error("the scale is in the hash")
	}
}

func TestRefusal(t *testing.T) {
	t.Parallel()
	services := schema.GroupResource{Resource: "services"}
	for name, c := range map[string]struct {
		err  error
		want setting.Code
	}{
		"a missing right": {apierrors.NewForbidden(services, "x", errors.New(`User "u" cannot create resource "services" in API group ""`)), setting.NotAllowed},
		"a quota":         {apierrors.NewForbidden(services, "x", errors.New("exceeded quota: few")), setting.Rejected},
		"a dead webhook":  {apierrors.NewInternalError(errors.New("failed calling webhook")), setting.Rejected},
		"a conflict":      {apierrors.NewConflict(services, "x", errors.New("changed")), ""},
		"no answer":       {errors.New("connection refused"), ""},
		"busy":            {apierrors.NewTooManyRequests("later", 1), ""},
		"existing by now": {apierrors.NewAlreadyExists(services, "x"), ""},
	} {
		if p, ok := refusal("Service x", "made", c.err); p.Code != c.want || ok != (c.want != "") {
			t.Errorf("%s: %v %v", name, p, ok)
		}
	}
}

// now is when the containers of the tests are looked at.
var now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func TestContainer(t *testing.T) {
	t.Parallel()
	ended := func(code int32, reason, message string) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, Message: message}}
	}
	running := func(since time.Duration) corev1.ContainerState {
		return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(now.Add(-since))}}
	}
	waiting := func(reason string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: "m"}}
	}
	cluster, ok := object.Read("shop", "events", map[string]string{"metamorph.dev/role": "kafka", "metamorph.dev/source": "{}", "metamorph.dev/settings": "{}"})
	if !ok {
		t.Fatal("no cluster")
	}
	r := &run{Reconciler: &Reconciler{clock: testingclock.NewFakePassiveClock(now)}, cluster: cluster}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "events-0"}}
	for name, c := range map[string]struct {
		status corev1.ContainerStatus
		want   string // "" for nothing to tell
	}{
		"nothing yet":         {corev1.ContainerStatus{Name: "kafka"}, ""},
		"starting":            {corev1.ContainerStatus{Name: "kafka", State: waiting("ContainerCreating")}, ""},
		"done":                {corev1.ContainerStatus{Name: "metamorph-init", State: ended(0, "Completed", "")}, ""},
		"no image":            {corev1.ContainerStatus{Name: "kafka", State: waiting("ErrImagePull")}, "metamorph.dev/image"},
		"a key is missing":    {corev1.ContainerStatus{Name: "kafka", State: waiting("CreateContainerConfigError")}, "Correct what the message names"},
		"failed":              {corev1.ContainerStatus{Name: "kafka", State: ended(1, "Error", "bang\n")}, "exit code 1: bang. kubectl logs -n shop events-0 -c kafka"},
		"failing again":       {corev1.ContainerStatus{Name: "kafka", State: waiting("CrashLoopBackOff"), LastTerminationState: ended(1, "Error", "bang")}, "bang"},
		"just started again":  {corev1.ContainerStatus{Name: "kafka", State: running(time.Minute), LastTerminationState: ended(1, "Error", "bang")}, "bang"},
		"recovering its log":  {corev1.ContainerStatus{Name: "kafka", State: running(time.Hour), LastTerminationState: ended(1, "Error", "bang")}, ""},
		"ready at once":       {corev1.ContainerStatus{Name: "kafka", Ready: true, State: running(time.Second), LastTerminationState: ended(1, "Error", "bang")}, "bang"},
		"ready again":         {corev1.ContainerStatus{Name: "kafka", Ready: true, State: running(2 * time.Minute), LastTerminationState: ended(1, "Error", "bang")}, ""},
		"out of memory":       {corev1.ContainerStatus{Name: "kafka", State: ended(137, "OOMKilled", "")}, "metamorph.dev/memory"},
		"somebody's sidecar":  {corev1.ContainerStatus{Name: "side", State: ended(3, "Error", "their secret")}, "container side ended with exit code 3. kubectl"},
		"stopped on purpose":  {corev1.ContainerStatus{Name: "kafka", State: running(time.Second), LastTerminationState: ended(0, "Completed", "")}, ""},
		"a password in a log": {corev1.ContainerStatus{Name: "kafka", State: ended(1, "Error", `required username="kafka" password="abc";`)}, `password=…;`},
	} {
		p, told := r.container(pod, c.status)
		if told != (c.want != "") || !strings.Contains(p.String(), c.want) || strings.Contains(p.String(), "their secret") || strings.Contains(p.String(), "abc") {
			t.Errorf("%s: %v %s", name, told, p)
		}
	}
}

// TestAlike: what only counts or dates differently is no news.
func TestAlike(t *testing.T) {
	t.Parallel()
	a := metav1.Condition{Type: "x", Status: "False", Message: "0/412 nodes at 12:00:01"}
	b := a
	b.Message = "0/413 nodes at 12:00:02"
	if !alike(a, b) {
		t.Error("numbers are news")
	}
	b.Message = "0/413 pods at 12:00:02"
	if alike(a, b) {
		t.Error("words are none")
	}
	b.Message, b.Status = a.Message, "True"
	if alike(a, b) {
		t.Error("a status is none")
	}
}
