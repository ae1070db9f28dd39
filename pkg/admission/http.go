package admission

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// The paths that are served.
const (
	MutatePath        = "/mutate"
	ValidatePath      = "/validate"
	ValidateScalePath = "/validate-scale"
	HealthPath        = "/healthz"
	ReadyPath         = "/readyz"
	MetricsPath       = "/metrics"
)

// maxTimeout is the longest that an API server waits for a webhook (timeoutSeconds of a registration), and how long a
// request takes that does not say.
const maxTimeout = 30 * time.Second

// Serve makes an HTTP handler of a handler of admission requests. The API server says in the query how long it waits;
// whatever a request still waits for after that is given up.
func Serve(h admission.Handler, log logr.Logger) (http.Handler, error) {
	hook := &admission.Webhook{
		Handler: h,
		// Handlers name the request themselves.
		LogConstructor: func(base logr.Logger, _ *admission.Request) logr.Logger { return base },
	}
	serve, err := admission.StandaloneWebhook(hook, admission.StandaloneOptions{Logger: log})
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), timeout(r))
		defer cancel()
		whole := &wholeResponse{ResponseWriter: w}
		serve.ServeHTTP(whole, r.WithContext(ctx))
		whole.send()
	}), nil
}

// wholeResponse holds an answer back until it is complete, so that it goes out with its length and in as few records as
// TLS takes: an encoder's small writes would each cost a chunk.
type wholeResponse struct {
	http.ResponseWriter
	code int
	body bytes.Buffer
}

func (w *wholeResponse) WriteHeader(code int) { w.code = code }

func (w *wholeResponse) Write(b []byte) (int, error) { return w.body.Write(b) }

func (w *wholeResponse) send() {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(w.body.Len()))
	if w.code != 0 {
		w.ResponseWriter.WriteHeader(w.code)
	}
	// An error means that the API server is gone, and then there is nobody to tell.
	_, _ = w.ResponseWriter.Write(w.body.Bytes())
}

func timeout(r *http.Request) time.Duration {
	d, err := time.ParseDuration(r.URL.Query().Get("timeout"))
	if err != nil || d <= 0 || d > maxTimeout {
		return maxTimeout
	}
	return d
}
