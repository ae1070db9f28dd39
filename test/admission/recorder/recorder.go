// Package recorder is a mutating webhook that keeps what it is asked. It completes an almost empty StatefulSet as far
// as the API server's validation demands, and no further, so that tests see what Metamorph would see of each client,
// and what becomes of it.
package recorder

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Metamorph's own condition: any of its annotations or labels, before or after the change, except on a deletion.
const condition = `(oldObject == null || !has(oldObject.metadata.deletionTimestamp)) && [object, oldObject].exists(o, o != null && (
	(has(o.metadata.annotations) && o.metadata.annotations.exists(k, k.startsWith('metamorph.dev/'))) ||
	(has(o.metadata.labels) && o.metadata.labels.exists(k, k.startsWith('metamorph.dev/')))))`

// Options say how to register.
type Options struct {
	// Name of the MutatingWebhookConfiguration. The API server calls webhooks in the order of these names.
	Name string
	// Respond answers a request. Nil: [Complete].
	Respond func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse
}

// Recorder is a running webhook.
type Recorder struct {
	client  kubernetes.Interface
	name    string
	server  *httptest.Server
	respond func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse

	mu       sync.Mutex
	requests []Request
}

// Request is what the webhook was asked.
type Request struct {
	admissionv1.AdmissionRequest
	// Raw is the request as it came.
	Raw json.RawMessage
}

// Start registers the webhook and waits until the API server calls it.
func Start(ctx context.Context, cfg *rest.Config, o Options) (_ *Recorder, err error) {
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	r := &Recorder{client: client, name: o.Name, respond: o.Respond}
	if r.respond == nil {
		r.respond = Complete
	}
	r.server = httptest.NewTLSServer(r)
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Stop(context.WithoutCancel(ctx)))
		}
	}()
	if _, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().
		Create(ctx, r.configuration(), metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	return r, r.awaitFirstCall(ctx)
}

func (r *Recorder) configuration() *registrationv1.MutatingWebhookConfiguration {
	webhook := func(name, resource, cel string) registrationv1.MutatingWebhook {
		return registrationv1.MutatingWebhook{
			Name: name,
			ClientConfig: registrationv1.WebhookClientConfig{
				URL:      new(r.server.URL),
				CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.server.Certificate().Raw}),
			},
			Rules: []registrationv1.RuleWithOperations{{
				Operations: []registrationv1.OperationType{registrationv1.Create, registrationv1.Update},
				Rule:       registrationv1.Rule{APIGroups: []string{"apps"}, APIVersions: []string{"v1"}, Resources: []string{resource}},
			}},
			MatchConditions:         []registrationv1.MatchCondition{{Name: "ours", Expression: cel}},
			ReinvocationPolicy:      new(registrationv1.IfNeededReinvocationPolicy),
			SideEffects:             new(registrationv1.SideEffectClassNone),
			AdmissionReviewVersions: []string{"v1"},
		}
	}
	return &registrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: r.name},
		Webhooks: []registrationv1.MutatingWebhook{
			webhook("set.metamorph.dev", "statefulsets", condition),
			// A Scale has no annotations; the rendered selector has our labels.
			webhook("scale.metamorph.dev", "statefulsets/scale", `oldObject.status.selector.contains('metamorph.dev/')`),
		},
	}
}

func (r *Recorder) awaitFirstCall(ctx context.Context) error {
	probe := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{
		Name: "probe-" + r.name, Annotations: map[string]string{"metamorph.dev/role": "kafka"},
	}}
	err := wait.PollUntilContextCancel(ctx, 20*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		// Whether it succeeds does not matter: before the webhook is known, validation refuses it.
		_, _ = r.client.AppsV1().StatefulSets(metav1.NamespaceDefault).
			Create(ctx, probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return len(r.Requests(metav1.NamespaceDefault, probe.Name)) > 0, ctx.Err()
	})
	if err != nil {
		return fmt.Errorf("waiting for the API server to call the webhook %s: %w", r.name, err)
	}
	return nil
}

// Stop takes the registration back and closes the server.
func (r *Recorder) Stop(ctx context.Context) error {
	err := r.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Delete(ctx, r.name, metav1.DeleteOptions{})
	r.server.Close()
	return err
}

// Requests returns the requests for one object so far, oldest first; for all objects of the namespace if name is empty.
func (r *Recorder) Requests(namespace, name string) []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []Request
	for _, q := range r.requests {
		if q.Namespace == namespace && (name == "" || q.Name == name) {
			found = append(found, q)
		}
	}
	return found
}

// ServeHTTP answers an AdmissionReview.
func (r *Recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var review admissionv1.AdmissionReview
	var raw struct{ Request json.RawMessage }
	if err := errors.Join(json.Unmarshal(body, &review), json.Unmarshal(body, &raw)); err != nil || review.Request == nil {
		http.Error(w, fmt.Sprintf("no AdmissionReview: %v", err), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	r.requests = append(r.requests, Request{AdmissionRequest: *review.Request, Raw: raw.Request})
	r.mu.Unlock()

	review.Response = r.respond(review.Request)
	review.Response.UID = review.Request.UID
	review.Request = nil
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(review) // the client has gone: nobody to tell
}

// Operation is one operation of a JSON Patch.
type Operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// Complete adds to a StatefulSet what validation wants and the user left out: selector, labels, a container and its
// image.
func Complete(req *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	if req.SubResource != "" {
		return Patch()
	}
	var set struct {
		Metadata struct{ Name string }
		Spec     struct {
			Selector map[string]any
			Template struct {
				Metadata struct{ Labels map[string]string }
				Spec     struct{ Containers []struct{ Image string } }
			}
		}
	}
	if err := json.Unmarshal(req.Object.Raw, &set); err != nil {
		return &admissionv1.AdmissionResponse{Result: &metav1.Status{Message: err.Error(), Code: http.StatusBadRequest}}
	}
	const image = "apache/kafka:4.1.0"
	labels := map[string]string{"metamorph.dev/role": "kafka", "metamorph.dev/name": set.Metadata.Name}
	var ops []Operation
	if len(set.Spec.Selector) == 0 {
		ops = append(ops, Operation{Op: "add", Path: "/spec/selector", Value: map[string]any{"matchLabels": labels}})
	}
	if len(set.Spec.Template.Metadata.Labels) == 0 {
		ops = append(ops, Operation{Op: "add", Path: "/spec/template/metadata/labels", Value: labels})
	}
	if len(set.Spec.Template.Spec.Containers) == 0 {
		ops = append(ops, Operation{Op: "add", Path: "/spec/template/spec/containers", Value: []any{
			map[string]any{"name": "kafka", "image": image},
		}})
	}
	for i, c := range set.Spec.Template.Spec.Containers {
		if c.Image == "" {
			ops = append(ops, Operation{Op: "add", Path: fmt.Sprintf("/spec/template/spec/containers/%d/image", i), Value: image})
		}
	}
	return Patch(ops...)
}

// Patch allows a request with these changes.
func Patch(ops ...Operation) *admissionv1.AdmissionResponse {
	response := &admissionv1.AdmissionResponse{Allowed: true}
	if len(ops) > 0 {
		raw, err := json.Marshal(ops)
		if err != nil {
			panic(err) // only of strings, maps and slices
		}
		response.Patch, response.PatchType = raw, new(admissionv1.PatchTypeJSONPatch)
	}
	return response
}
