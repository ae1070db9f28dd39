package server

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/metamorph-k8s/metamorph/pkg/audit"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
	"github.com/metamorph-k8s/metamorph/pkg/policy"
	"github.com/metamorph-k8s/metamorph/pkg/policy/source"
	"github.com/metamorph-k8s/metamorph/policies"
)

const (
	// policiesLabel makes a ConfigMap in Metamorph's namespace a source of policies: its keys that end in .rego are policies,
	// config.yaml tunes them.
	policiesLabel = setting.Prefix + "policies"
	// statusAnnotation is where the ConfigMap is told how it is.
	statusAnnotation = setting.Prefix + "policies-status"
)

var configMaps = corev1.SchemeGroupVersion.WithResource("configmaps")

// policySources keeps the engine as its sources are.
type policySources struct {
	manager   *source.Manager
	client    dynamic.Interface
	namespace string
	log       logr.Logger

	synced atomic.Bool

	mu sync.Mutex
	// maps are the ConfigMaps as they were last seen, without their data, for the reports.
	maps map[string]*unstructured.Unstructured
	// due are the statuses to report.
	due chan struct{}
}

func newPolicySources(engine *policy.Engine, client dynamic.Interface, namespace string, log logr.Logger) (*policySources, error) {
	p := &policySources{client: client, namespace: namespace, log: log, maps: map[string]*unstructured.Unstructured{}, due: make(chan struct{}, 1)}
	loader := policies.Loader()
	var err error
	if p.manager, err = source.NewManager(engine, loader, p.changed, policies.Source()); err != nil {
		return nil, err
	}
	p.loaded()
	return p, nil
}

type sourceMetricSet struct {
	ready   *prometheus.GaugeVec
	reloads *prometheus.CounterVec
	loaded  prometheus.Gauge
}

// sourceMetrics are registered once in a process.
var sourceMetrics = sync.OnceValue(func() *sourceMetricSet {
	m := &sourceMetricSet{
		ready: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "metamorph_policy_source_ready", Help: "1 if the source of policies is in force as it was last read, 0 if an earlier state of it is, or nothing of it since the process started.",
		}, []string{"source"}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "metamorph_policy_reloads_total", Help: "Sources of policies that were read anew, by result (ok, failed).",
		}, []string{"result"}),
		loaded: prometheus.NewGauge(prometheus.GaugeOpts{Name: "metamorph_policies", Help: "Policies in force."}),
	}
	metrics.Registry.MustRegister(m.ready, m.reloads, m.loaded)
	return m
})

// changed is told of every source that was read anew.
func (p *policySources) changed(name string, s source.Status) {
	m := sourceMetrics()
	if s.Ready {
		m.ready.WithLabelValues(name).Set(1)
		m.reloads.WithLabelValues("ok").Inc()
		p.log.Info("Policies are in force", "source", name, "policies", s.Policies, "configuration", s.Configuration, "digest", s.Digest)
	} else {
		m.ready.WithLabelValues(name).Set(0)
		m.reloads.WithLabelValues("failed").Inc()
		p.log.Error(policy.Problems(s.Problems), "A source of policies cannot be used; its last good state stays in force", "source", name)
	}
	p.loaded()
	for _, w := range s.Warnings {
		p.log.Info("Policies: "+w.Error(), "source", name)
	}
	p.wake()
}

func (p *policySources) wake() {
	select {
	case p.due <- struct{}{}:
	default: // somebody is on the way already
	}
}

// watch keeps the ConfigMaps' policies in force until the context ends.
func (p *policySources) watch(ctx context.Context) error {
	all := p.client.Resource(configMaps).Namespace(p.namespace)
	selected := func(o metav1.ListOptions) metav1.ListOptions { o.LabelSelector = policiesLabel; return o }
	reflector := cache.NewReflectorWithOptions(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return all.List(ctx, selected(o))
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return all.Watch(ctx, selected(o))
		},
	}, &unstructured.Unstructured{}, &policyStore{p}, cache.ReflectorOptions{Name: "policies", TypeDescription: "ConfigMap", Logger: &p.log})
	reflector.RunWithContext(ctx)
	return nil
}

// policyStore hands ConfigMaps on to the manager; nothing is stored twice.
type policyStore struct{ sources *policySources }

func (s *policyStore) Add(obj any) error {
	m, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return fmt.Errorf("%T is no ConfigMap", obj)
	}
	s.sources.put(m)
	return nil
}

func (s *policyStore) Update(obj any) error { return s.Add(obj) }

func (s *policyStore) Delete(obj any) error {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	if m, ok := obj.(*unstructured.Unstructured); ok {
		s.sources.remove(m.GetName())
	}
	return nil
}

func (s *policyStore) Replace(list []any, _ string) error {
	there := map[string]bool{}
	for _, obj := range list {
		if m, ok := obj.(*unstructured.Unstructured); ok {
			there[m.GetName()] = true
			s.sources.put(m)
		}
	}
	for _, name := range s.sources.known() {
		if !there[name] {
			s.sources.remove(name)
		}
	}
	s.sources.synced.Store(true)
	return nil
}

func (s *policyStore) Resync() error { return nil }

func sourceName(configMap string) string { return "configmap " + configMap }

func (p *policySources) put(m *unstructured.Unstructured) {
	p.mu.Lock()
	p.maps[m.GetName()] = identity(m)
	p.mu.Unlock()
	files, _, err := unstructured.NestedStringMap(m.Object, "data")
	if err != nil {
		files = map[string]string{}
	}
	// What is wrong is told by changed.
	_ = p.manager.Put(sourceName(m.GetName()), files)
	// Somebody may have taken the status off.
	p.wake()
}

// identity is as much of a ConfigMap as a report needs.
func identity(m *unstructured.Unstructured) *unstructured.Unstructured {
	out := &unstructured.Unstructured{}
	out.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("ConfigMap"))
	out.SetName(m.GetName())
	out.SetNamespace(m.GetNamespace())
	out.SetUID(m.GetUID())
	if status, ok := m.GetAnnotations()[statusAnnotation]; ok {
		out.SetAnnotations(map[string]string{statusAnnotation: status})
	}
	return out
}

func (p *policySources) remove(name string) {
	p.mu.Lock()
	delete(p.maps, name)
	p.mu.Unlock()
	if err := p.manager.Remove(sourceName(name)); err != nil {
		p.log.Error(err, "The policies of a ConfigMap that is gone stay in force", "configMap", name)
		return
	}
	sourceMetrics().ready.DeleteLabelValues(sourceName(name))
	p.log.Info("The policies of a ConfigMap are no longer in force", "configMap", name)
	p.loaded()
}

func (p *policySources) loaded() { sourceMetrics().loaded.Set(float64(p.manager.Len())) }

func (p *policySources) known() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.maps))
}

// report writes every ConfigMap's status on it, and an event when it changed. Only one replica does it.
func (p *policySources) report(ctx context.Context, recorder audit.Recorder) {
	for {
		p.reportAll(ctx, recorder)
		select {
		case <-ctx.Done():
			return
		case <-p.due:
		case <-time.After(time.Minute): // what failed is tried again
		}
	}
}

func (p *policySources) reportAll(ctx context.Context, recorder audit.Recorder) {
	statuses := p.manager.Statuses()
	p.mu.Lock()
	now := maps.Clone(p.maps)
	p.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(now)) {
		s, ok := statuses[sourceName(name)]
		if !ok {
			continue
		}
		text, err := json.Marshal(s)
		if err != nil || now[name].GetAnnotations()[statusAnnotation] == string(text) {
			continue
		}
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{statusAnnotation: string(text)}}})
		if err == nil {
			_, err = p.client.Resource(configMaps).Namespace(p.namespace).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "metamorph"})
		}
		if err != nil {
			if ctx.Err() == nil && !apierrors.IsNotFound(err) {
				p.log.Error(err, "Cannot write the status of a ConfigMap with policies", "configMap", name)
			}
			continue
		}
		if recorder == nil {
			continue
		}
		if err := recorder.Record(ctx, event(now[name], s)); err != nil && !apierrors.IsAlreadyExists(err) && ctx.Err() == nil {
			p.log.Error(err, "Cannot write an Event", "configMap", name)
		}
	}
}

// maxNote is the length of an Event's note (k8s.io/api/events/v1).
const maxNote = 1024

// event tells of a new status. Its name follows from the status, so that another replica does not tell it again.
func event(m *unstructured.Unstructured, s source.Status) *eventsv1.Event {
	kind, reason, note := corev1.EventTypeNormal, "PoliciesLoaded", "in force: "+strings.Join(s.Policies, ", ")
	if len(s.Policies) == 0 {
		note = "the configuration of the policies is in force"
	}
	if !s.Ready {
		kind, reason, note = corev1.EventTypeWarning, "PoliciesRefused", "the last good state stays in force: "+policy.Problems(s.Problems).Error()
	}
	if len(note) > maxNote {
		note = strings.ToValidUTF8(note[:maxNote-len("…")], "") + "…"
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "metamorph"
	}
	return &eventsv1.Event{
		TypeMeta:   metav1.TypeMeta{APIVersion: eventsv1.SchemeGroupVersion.String(), Kind: "Event"},
		ObjectMeta: metav1.ObjectMeta{Namespace: m.GetNamespace(), Name: fmt.Sprintf("%.200s.%s", m.GetName(), s.Digest)},
		EventTime:  metav1.NowMicro(), ReportingController: "metamorph.dev/policies", ReportingInstance: host, Action: "Load", Reason: reason, Note: note, Type: kind,
		Regarding: corev1.ObjectReference{APIVersion: "v1", Kind: "ConfigMap", Namespace: m.GetNamespace(), Name: m.GetName(), UID: m.GetUID()},
	}
}
