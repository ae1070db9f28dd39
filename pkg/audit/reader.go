package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// requestTimeout bounds one request: a connection that has died must not stop the audits for ever.
const requestTimeout = time.Minute

// Reader lists the StatefulSets of all namespaces.
type Reader interface {
	// Page reads a page; token is that of the page before, "" for the first. An error that is "expired"
	// (apierrors.IsResourceExpired) means that the list has to begin again.
	Page(ctx context.Context, limit int, token string) (*Page, error)
}

// Page is a part of a list.
type Page struct {
	// Items are the objects as JSON: decoded, a page would have several times the size.
	Items []json.RawMessage
	// Continue is the token of the next page; "" after the last.
	Continue string
}

// NewReader makes a reader that asks the API server. It needs the right to list StatefulSets.
func NewReader(config *rest.Config) (Reader, error) {
	client, err := clientFor(config, appsv1.SchemeGroupVersion)
	return &reader{client}, err
}

type reader struct{ client rest.Interface }

// Page implements [Reader].
func (r *reader) Page(ctx context.Context, limit int, token string) (*Page, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req := r.client.Get().Resource("statefulsets").Param("limit", strconv.Itoa(limit))
	if token != "" {
		req = req.Param("continue", token)
	}
	res := req.Do(ctx)
	raw, err := res.Raw()
	if err != nil {
		return nil, res.Error() // which, other than Raw's, says what the API server said
	}
	var list struct {
		Metadata struct {
			Continue string `json:"continue"`
		} `json:"metadata"`
		Items []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("the list is not JSON that can be read: %w", err)
	}
	return &Page{Items: list.Items, Continue: list.Metadata.Continue}, nil
}

// clientFor makes a client for one API group, whose answers are read here.
func clientFor(config *rest.Config, group schema.GroupVersion) (rest.Interface, error) {
	config = dynamic.ConfigFor(config)
	config.AcceptContentTypes = config.ContentType
	config.APIPath, config.GroupVersion = "/apis", &group
	return rest.RESTClientFor(config)
}
