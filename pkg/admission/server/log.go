package server

import (
	"bytes"
	"log"
	"sync"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/metamorph-k8s/metamorph/pkg/admission"
)

// admissionMetrics registers the metrics with the registry that controller-runtime fills, once in a process.
var admissionMetrics = sync.OnceValue(func() *admission.Metrics { return admission.NewMetrics(metrics.Registry) })

// logError makes what net/http has to say, about handshakes mostly, a line of the structured log.
func logError(to logr.Logger) *log.Logger { return log.New(lines{to}, "", 0) }

type lines struct{ log logr.Logger }

func (l lines) Write(p []byte) (int, error) {
	// Probes that only open a connection are not worth a line at the usual level.
	l.log.V(1).Info("HTTP", "message", string(bytes.TrimSpace(p)))
	return len(p), nil
}
