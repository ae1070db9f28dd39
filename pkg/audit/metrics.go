package audit

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
	"github.com/metamorph-k8s/metamorph/pkg/policy"
)

// Why something failed, as a label of the metrics.
const (
	reasonList      = "list"
	reasonDecode    = "decode"
	reasonNamespace = "namespace"
	reasonPanic     = "panic"
	reasonEvent     = "event"
)

// Metrics are the numbers about audits. No label has a value that the author of an object can choose; codes are those of
// the policies in force.
type Metrics struct {
	findings, excepted, objects, duration, success *prometheus.GaugeVec
	errors, events, audits                         *prometheus.CounterVec

	mu sync.Mutex
	// shown are the series of findings and excepted.
	shown map[series]bool
}

// NewMetrics makes and registers them. It panics if they are registered already.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	// Gauges are vectors even without labels, because a replica that does not audit any more must not show them.
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "metamorph_audit_" + name, Help: help}, labels)
	}
	counter := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "metamorph_audit_" + name, Help: help}, []string{label})
	}
	m := &Metrics{
		findings: gauge("findings", "What the last complete audit found, by code and by what follows from it at admission (deny, warn, audit).", "code", "action"),
		excepted: gauge("excepted_findings", "Findings of the last complete audit that an exception lowered to audit, by code.", "code"),
		objects:  gauge("objects", "StatefulSets that the last complete audit judged, by role (kafka, zookeeper, plain, other).", "role"),
		duration: gauge("duration_seconds", "Time that the last complete audit took."),
		success:  gauge("last_success_timestamp_seconds", "When the last complete audit ended, in seconds since 1970."),
		errors:   counter("errors_total", "What failed in audits, by reason (list, decode, namespace, panic, event).", "reason"),
		events:   counter("events_total", "Events about changed findings, by result (written, postponed to the next audit).", "result"),
		audits:   counter("runs_total", "Audits, by result (complete, incomplete).", "result"),
		shown:    map[series]bool{},
	}
	registry.MustRegister(m.findings, m.excepted, m.objects, m.duration, m.success, m.errors, m.events, m.audits)
	// So that a rate exists from the start.
	for _, r := range []string{reasonList, reasonDecode, reasonNamespace, reasonPanic, reasonEvent} {
		m.errors.WithLabelValues(r)
	}
	for _, r := range []string{"written", "postponed"} {
		m.events.WithLabelValues(r)
	}
	for _, r := range []string{"complete", "incomplete"} {
		m.audits.WithLabelValues(r)
	}
	return m
}

func (m *Metrics) failed(reason string) {
	if m != nil {
		m.errors.WithLabelValues(reason).Inc()
	}
}

// observe shows a run. What is known of a part of the objects says nothing about all, so it does not replace what was
// known.
func (m *Metrics) observe(s *Summary, codes map[series]int, now time.Time) {
	if m == nil {
		return
	}
	m.events.WithLabelValues("written").Add(float64(s.Events))
	m.events.WithLabelValues("postponed").Add(float64(s.Postponed))
	if s.Incomplete {
		m.audits.WithLabelValues("incomplete").Inc()
		return
	}
	m.audits.WithLabelValues("complete").Inc()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.show(codes)
	for _, role := range setting.Roles {
		m.objects.WithLabelValues(string(role)).Set(float64(s.Roles[string(role)]))
	}
	for _, role := range []string{policy.Plain, otherRole} {
		m.objects.WithLabelValues(role).Set(float64(s.Roles[role]))
	}
	m.duration.WithLabelValues().Set(s.Took.Seconds())
	m.success.WithLabelValues().Set(float64(now.UnixMilli()) / 1000)
}

// show sets the series of findings, and removes those that are no longer. It needs the lock.
func (m *Metrics) show(codes map[series]int) {
	totals := map[series]int{}
	for s, n := range codes {
		totals[series{code: s.code, action: s.action}] += n
		if s.excepted {
			totals[series{code: s.code, excepted: true}] += n
		}
	}
	for s := range m.shown {
		if _, ok := totals[s]; ok {
			continue
		}
		if s.excepted {
			m.excepted.DeleteLabelValues(s.code)
		} else {
			m.findings.DeleteLabelValues(s.code, s.action)
		}
		delete(m.shown, s)
	}
	for s, n := range totals {
		m.shown[s] = true
		if s.excepted {
			m.excepted.WithLabelValues(s.code).Set(float64(n))
		} else {
			m.findings.WithLabelValues(s.code, s.action).Set(float64(n))
		}
	}
}

// forget takes back what only the replica that audits may show.
func (m *Metrics) forget() {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.show(nil)
	m.objects.Reset()
	m.duration.Reset()
	m.success.Reset()
}
