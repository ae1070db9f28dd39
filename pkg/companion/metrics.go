package companion

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

// Metrics counts the problems there are.
type Metrics struct {
	mu       sync.Mutex
	problems map[types.NamespacedName][]setting.Code
	gauge    *prometheus.GaugeVec
}

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		problems: map[types.NamespacedName][]setting.Code{},
		gauge: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "metamorph_companion_problems", Help: "Problems with the companions and nodes of managed StatefulSets, by code. Only the leader has them.",
		}, []string{"code"}),
	}
	r.MustRegister(m.gauge)
	return m
}

func (m *Metrics) observe(key types.NamespacedName, problems []Problem) {
	if m == nil {
		return
	}
	var codes []setting.Code
	for i := range problems {
		if !problems[i].Notice {
			codes = append(codes, problems[i].Code)
		}
	}
	m.set(key, codes)
}

func (m *Metrics) forget(key types.NamespacedName) {
	if m != nil {
		m.set(key, nil)
	}
}

func (m *Metrics) set(key types.NamespacedName, codes []setting.Code) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.problems[key] {
		m.gauge.WithLabelValues(string(c)).Dec()
	}
	for _, c := range codes {
		m.gauge.WithLabelValues(string(c)).Inc()
	}
	if len(codes) == 0 {
		delete(m.problems, key)
	} else {
		m.problems[key] = codes
	}
}

// Reset forgets everything: this replica is not the leader any more.
func (m *Metrics) Reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.problems)
	m.gauge.Reset()
}
