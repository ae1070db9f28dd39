package gatekeeper_test

import (
	"github.com/open-policy-agent/frameworks/constraint/pkg/core/constraints"
	"github.com/open-policy-agent/frameworks/constraint/pkg/handler"
	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// target stands for Gatekeeper's own, which is in a module with a controller and its dependencies. It takes the same
// requests under the same name, and matches everything, which takes less time than to look.
type target struct{}

var _ handler.TargetHandler = target{}

// request is an admission request as Gatekeeper's client asks its target for it.
type request struct {
	admissionv1.AdmissionRequest
}

// GetAdmissionRequest tells the client about the operation.
func (r *request) GetAdmissionRequest() *admissionv1.AdmissionRequest { return &r.AdmissionRequest }

func (target) GetName() string { return "admission.k8s.gatekeeper.sh" }

func (target) MatchSchema() apiextensions.JSONSchemaProps {
	open := true
	return apiextensions.JSONSchemaProps{Type: "object", XPreserveUnknownFields: &open}
}

func (target) ProcessData(any) (handle bool, key []string, inventoryFormat any, err error) {
	return false, nil, nil, nil
}

func (target) HandleReview(object any) (handle bool, review any, err error) {
	r, ok := object.(*admissionv1.AdmissionRequest)
	if !ok {
		return false, nil, nil
	}
	return true, &request{*r}, nil
}

func (target) ValidateConstraint(*unstructured.Unstructured) error { return nil }

func (target) ToMatcher(*unstructured.Unstructured) (constraints.Matcher, error) {
	return everything{}, nil
}

type everything struct{}

func (everything) Match(any) (bool, error) { return true, nil }
