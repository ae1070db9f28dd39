package admission_test

import (
	"bytes"
	"context"
	"net/http/httptest"
	"testing"

	"github.com/go-logr/logr"
	ctrladmission "sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/metamorph-k8s/metamorph/pkg/admission"
)

// BenchmarkAdmission measures a round trip over TLS, client included: what a handler costs that does nothing, and what
// the three-line Kafka manifest costs on the same server. The difference is Metamorph's own.
func BenchmarkAdmission(b *testing.B) {
	for _, bench := range []struct {
		name    string
		handler ctrladmission.Handler
	}{
		{"null", ctrladmission.HandlerFunc(func(context.Context, ctrladmission.Request) ctrladmission.Response { return ctrladmission.Allowed("") })},
		{"kafka", newMutator()},
	} {
		b.Run(bench.name, func(b *testing.B) {
			handler, err := admission.Serve(bench.handler, logr.Discard())
			if err != nil {
				b.Fatal(err)
			}
			srv := httptest.NewUnstartedServer(handler)
			// HTTP/1.1, as an API server talks to webhooks (k8s.io/apiserver, pkg/util/webhook).
			srv.StartTLS()
			b.Cleanup(srv.Close)
			client, body := srv.Client(), reviewOf(b, request(threeLines(b)))
			b.ReportAllocs()
			for b.Loop() {
				// What a client makes of the answer is not the webhook's cost.
				if raw := exchange(b, client, srv.URL, body); !bytes.Contains(raw, []byte(`"allowed":true`)) {
					b.Fatalf("%s", raw)
				}
			}
		})
	}
}
