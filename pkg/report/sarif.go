package report

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"maps"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const (
	sarifSchema = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
	sarifTool   = "https://github.com/metamorph-k8s/metamorph"
)

// The objects of SARIF 2.1.0 that Metamorph has something to say in.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool struct {
			Driver sarifDriver `json:"driver"`
		} `json:"tool"`
		// Results is there even if it is empty: an absent one would say that nothing was looked at.
		Results []sarifResult `json:"results"`
	}
	sarifDriver struct {
		Name           string      `json:"name"`
		Version        string      `json:"version,omitempty"`
		InformationURI string      `json:"informationUri"`
		Rules          []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID               string        `json:"id"`
		ShortDescription *sarifMessage `json:"shortDescription,omitempty"`
		Help             *sarifMessage `json:"help,omitempty"`
	}
	sarifMessage struct {
		Text string `json:"text"`
	}
	sarifResult struct {
		RuleID              string             `json:"ruleId"`
		RuleIndex           int                `json:"ruleIndex"`
		Level               string             `json:"level"`
		Message             sarifMessage       `json:"message"`
		Locations           []sarifLocation    `json:"locations"`
		PartialFingerprints map[string]string  `json:"partialFingerprints"`
		Suppressions        []sarifSuppression `json:"suppressions,omitempty"`
	}
	sarifLocation struct {
		PhysicalLocation *sarifPhysical `json:"physicalLocation,omitempty"`
		LogicalLocations []sarifLogical `json:"logicalLocations"`
	}
	sarifPhysical struct {
		ArtifactLocation struct {
			URI string `json:"uri"`
		} `json:"artifactLocation"`
		Region *sarifRegion `json:"region,omitempty"`
	}
	sarifRegion struct {
		StartLine int `json:"startLine"`
	}
	sarifLogical struct {
		Name               string `json:"name"`
		FullyQualifiedName string `json:"fullyQualifiedName"`
		Kind               string `json:"kind"`
	}
	sarifSuppression struct {
		Kind          string `json:"kind"`
		Status        string `json:"status"`
		Justification string `json:"justification"`
	}
)

// writeSARIF writes for code scanning.
func writeSARIF(w io.Writer, r Report, _ Options) error {
	var run sarifRun
	rules, index := sarifRules(r.Findings)
	run.Tool.Driver = sarifDriver{Name: "metamorph", Version: r.Version, InformationURI: sarifTool, Rules: rules}
	run.Results = make([]sarifResult, len(r.Findings))
	for i := range r.Findings {
		run.Results[i] = r.Findings[i].sarif(index)
	}
	return encode(w, sarifLog{Schema: sarifSchema, Version: "2.1.0", Runs: []sarifRun{run}})
}

// sarifRules returns the rules that findings name, in the order of their codes, and where each one stands.
func sarifRules(findings []Finding) (rules []sarifRule, index map[string]int) {
	byCode := map[string]sarifRule{}
	for i := range findings {
		f := &findings[i]
		rule := byCode[f.Code]
		rule.ID = f.Code
		if rule.ShortDescription == nil && f.Title != "" {
			rule.ShortDescription = sarifText(f.Title)
		}
		if rule.Help == nil && f.Help != "" {
			rule.Help = sarifText(f.Help)
		}
		byCode[f.Code] = rule
	}
	rules, index = make([]sarifRule, 0, len(byCode)), map[string]int{}
	for _, code := range slices.Sorted(maps.Keys(byCode)) {
		index[code] = len(rules)
		rules = append(rules, byCode[code])
	}
	return rules, index
}

func (f *Finding) sarif(index map[string]int) sarifResult {
	text := f.Object + ": " + f.text()
	if fix := f.fix(); fix != "" {
		text += "\nfix: " + fix
	}
	r := sarifResult{
		RuleID: f.Code, RuleIndex: index[f.Code], Level: cmp.Or(sarifLevels[f.Severity], "note"), Message: *sarifText(text),
		Locations:           []sarifLocation{{LogicalLocations: []sarifLogical{{f.Object, strings.TrimSuffix(f.Object+" "+f.place(), " "), "object"}}}},
		PartialFingerprints: map[string]string{"metamorphFinding/v1": f.fingerprint()},
	}
	if f.File != "" {
		r.Locations[0].PhysicalLocation = f.sarifPlace()
	}
	if f.Exception != "" {
		r.Suppressions = []sarifSuppression{{"external", "accepted", f.Exception}}
	}
	return r
}

var sarifLevels = map[string]string{Deny: "error", Warn: "warning"}

// fingerprint is the same for the same complaint about the same object, wherever in the file that stands.
func (f *Finding) fingerprint() string {
	sum := sha256.Sum256([]byte(strings.Join([]string{f.Code, f.Object, f.Field, f.Annotation}, "\x00")))
	return hex.EncodeToString(sum[:16])
}

func (f *Finding) sarifPlace() *sarifPhysical {
	var p sarifPhysical
	// Code scanning compares with the names in the repository, which have no ./ before them.
	u := url.URL{Path: filepath.ToSlash(filepath.Clean(f.File))}
	if filepath.IsAbs(f.File) {
		u.Scheme = "file"
	}
	p.ArtifactLocation.URI = u.String()
	if f.Line > 0 {
		p.Region = &sarifRegion{f.Line}
	}
	return &p
}

// link is what a viewer would make one from.
var link = regexp.MustCompile(`\[[^\[\]]*\]\(`)

// sarifText is a message that means what it says: a manifest does not put links into it.
func sarifText(text string) *sarifMessage {
	return &sarifMessage{link.ReplaceAllStringFunc(text, func(l string) string { return `\` + l })}
}
