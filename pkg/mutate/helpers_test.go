package mutate_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
)

// requestObject is the object of a recorded AdmissionRequest.
func requestObject(tb testing.TB, raw []byte) []byte {
	tb.Helper()
	var req admissionv1.AdmissionRequest
	if err := json.Unmarshal(raw, &req); err != nil {
		tb.Fatal(err)
	}
	return req.Object.Raw
}

func bufReader(raw []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(raw)) }
