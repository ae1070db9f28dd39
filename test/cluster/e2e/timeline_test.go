//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
)

// timeline notes when something was first seen in a namespace.
type timeline struct {
	mu   sync.Mutex
	seen map[string]time.Time
	stop context.CancelFunc
}

// watch starts a timeline, which ends with the test.
func (p *place) watch() *timeline {
	p.Helper()
	ctx, stop := context.WithCancel(p.Context())
	p.Cleanup(stop)
	l := &timeline{seen: map[string]time.Time{}, stop: stop}
	factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(p.dynamic, 0, p.name, nil)
	for _, r := range []schema.GroupVersionResource{
		{Group: "apps", Version: "v1", Resource: "statefulsets"},
		{Version: "v1", Resource: "services"},
		{Version: "v1", Resource: "secrets"},
		{Version: "v1", Resource: "configmaps"},
		{Group: "policy", Version: "v1", Resource: "poddisruptionbudgets"},
		{Version: "v1", Resource: "pods"},
	} {
		if _, err := factory.ForResource(r).Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    l.note,
			UpdateFunc: func(_, o any) { l.note(o) },
		}); err != nil {
			p.Fatal(err)
		}
	}
	factory.Start(ctx.Done())
	for r, ok := range factory.WaitForCacheSync(ctx.Done()) {
		if !ok {
			p.Fatalf("watching %s", r)
		}
	}
	return l
}

func (l *timeline) note(object any) {
	now := time.Now()
	o, ok := object.(*unstructured.Unstructured)
	if !ok {
		return
	}
	marks := []string{o.GetKind() + "/" + o.GetName()}
	if o.GetKind() == "Pod" {
		pod := &corev1.Pod{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, pod); err != nil {
			return
		}
		for _, c := range pod.Status.Conditions {
			if c.Status == corev1.ConditionTrue {
				marks = append(marks, string(c.Type)+"/"+pod.Name)
			}
		}
		for _, c := range pod.Status.ContainerStatuses {
			if c.State.Running != nil {
				marks = append(marks, "Running/"+pod.Name)
			}
			if c.Started != nil && *c.Started {
				marks = append(marks, "Started/"+pod.Name)
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range marks {
		if _, ok := l.seen[m]; !ok {
			l.seen[m] = now
		}
	}
}

// last is when the last of these was first seen, and false if one never was.
func (l *timeline) last(marks ...string) (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var last time.Time
	for _, m := range marks {
		at, ok := l.seen[m]
		if !ok {
			return last, false
		}
		if at.After(last) {
			last = at
		}
	}
	return last, true
}

// report prints how the time from kubectl apply to the last broker's readiness was spent.
func (p *place) report(l *timeline, set string, pods []string, began, applied time.Time) {
	p.Helper()
	mark := func(what string) time.Time {
		marks := make([]string, len(pods))
		for i, pod := range pods {
			marks[i] = what + "/" + pod
		}
		at, ok := l.last(marks...)
		if !ok {
			p.Errorf("%s was not seen of every one of %v", what, pods)
		}
		return at
	}
	created, _ := l.last("StatefulSet/" + set)
	companions, ok := l.last("Service/"+set, "Service/"+set+"-headless", "Secret/"+set+"-sasl", "Secret/"+set+"-client", "PodDisruptionBudget/"+set)
	if !ok {
		p.Error("not every companion was seen")
	}
	scheduled, running, ready := mark("PodScheduled"), mark("Running"), mark("Ready")
	first, started := p.startOf(pods)
	var b strings.Builder
	line := func(what string, from, to time.Time) {
		if !from.IsZero() && !to.IsZero() {
			fmt.Fprintf(&b, "\n  %-46s %6.1f s", what, max(0, to.Sub(from).Seconds()))
		}
	}
	line("admission (kubectl apply)", began, applied)
	line("companions, after the StatefulSet", created, companions)
	line("scheduling (pods made, volumes bound)", applied, scheduled)
	line("init step (a JVM that formats the volume)", scheduled, running)
	line("JVM start (to the broker's first line)", running, first)
	line("election (to the last \"Kafka Server started\")", first, started)
	line("probes (to the last broker Ready)", started, ready)
	line("all: from kubectl apply to the last Ready", began, ready)
	p.Logf("%s: how long it took, the slowest of %d pods each time%s", set, len(pods), b.String())
}

// startOf reads from the brokers' logs when the last JVM had started, and the last server.
func (p *place) startOf(pods []string) (first, started time.Time) {
	stamp := regexp.MustCompile(`(?m)^\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3})\](.*)$`)
	for _, pod := range pods {
		out, err := p.client.CoreV1().Pods(p.name).GetLogs(pod, &corev1.PodLogOptions{}).DoRaw(p.Context())
		if err != nil {
			p.Error(err)
			continue
		}
		for i, m := range stamp.FindAllStringSubmatch(string(out), -1) {
			at, err := time.ParseInLocation("2006-01-02 15:04:05,000", m[1], time.UTC) // the containers have no time zone
			if err != nil {
				p.Error(err)
				return first, started
			}
			if i == 0 && at.After(first) {
				first = at
			}
			if strings.Contains(m[2], "started (kafka.server.Kafka") && at.After(started) {
				started = at
			}
		}
	}
	return first, started
}
