package admission

import (
	"context"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// The paths that are served.
const (
	MutatePath        = "/mutate"
	ValidatePath      = "/validate"       // kept for the policies
	ValidateScalePath = "/validate-scale" // kept for the policies
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
		w.Header().Set("Content-Type", "application/json")
		serve.ServeHTTP(w, r.WithContext(ctx))
	}), nil
}

func timeout(r *http.Request) time.Duration {
	d, err := time.ParseDuration(r.URL.Query().Get("timeout"))
	if err != nil || d <= 0 || d > maxTimeout {
		return maxTimeout
	}
	return d
}
