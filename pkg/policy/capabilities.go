package policy

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// allowed are the builtin functions that policies may call: those whose result depends on nothing but their arguments.
// It is a list of names and not of exclusions, so that what a later OPA adds is out until somebody has looked at it.
//
// Out, on purpose: http.send, net.* and the JSON Schema functions (they can fetch), opa.runtime (the process's
// environment), time.now_ns, rand.intn and uuid.rfc4122 (a decision must be repeatable; input.now is the time), io.jwt.*,
// providers.* and private keys (no credentials in policies), rego.parse_module.
var allowed = []string{
	"abs", "all", "and", "any", "array.concat", "array.flatten", "array.reverse", "array.slice", "assign",
	"base64.decode", "base64.encode", "base64.is_valid", "base64url.decode", "base64url.encode", "base64url.encode_no_pad",
	"bits.and", "bits.lsh", "bits.negate", "bits.or", "bits.rsh", "bits.xor",
	"cast_array", "cast_boolean", "cast_null", "cast_object", "cast_set", "cast_string", "ceil", "concat", "contains", "count",
	"crypto.md5", "crypto.sha1", "crypto.sha256", "crypto.x509.parse_certificates",
	"div", "endswith", "eq", "equal", "floor", "format_int", "glob.match", "glob.quote_meta",
	"graph.reachable", "graph.reachable_paths", "gt", "gte", "hex.decode", "hex.encode", "indexof", "indexof_n",
	"internal.member_2", "internal.member_3", "internal.print", "internal.template_string", "internal.test_case", "intersection",
	"is_array", "is_boolean", "is_null", "is_number", "is_object", "is_set", "is_string",
	"json.filter", "json.is_valid", "json.marshal", "json.marshal_with_options", "json.patch", "json.remove", "json.unmarshal",
	"lower", "lt", "lte", "max", "min", "minus", "mul", "neq",
	"net.cidr_contains", "net.cidr_contains_matches", "net.cidr_intersects", "net.cidr_is_valid", "net.cidr_overlap",
	"numbers.range", "numbers.range_step", "object.filter", "object.get", "object.keys", "object.remove", "object.subset",
	"object.union", "object.union_n", "or", "plus", "print", "product",
	"re_match", "regex.find_all_string_submatch_n", "regex.find_n", "regex.globs_match", "regex.is_valid", "regex.match",
	"regex.replace", "regex.split", "regex.template_match", "rego.metadata.chain", "rego.metadata.rule", "rem", "replace", "round",
	"semver.compare", "semver.is_valid", "set_diff", "sort", "split", "sprintf", "startswith",
	"strings.any_prefix_match", "strings.any_suffix_match", "strings.count", "strings.render_template", "strings.replace_n",
	"strings.reverse", "strings.split_n", "substring", "sum",
	"time.add_date", "time.clock", "time.date", "time.diff", "time.format", "time.parse_duration_ns", "time.parse_ns",
	"time.parse_rfc3339_ns", "time.weekday", "to_number", "trace", "trim", "trim_left", "trim_prefix", "trim_right", "trim_space",
	"trim_suffix", "type_name", "union", "units.parse", "units.parse_bytes", "upper", "uri.is_valid", "uri.parse",
	"urlquery.decode", "urlquery.decode_object", "urlquery.encode", "urlquery.encode_object", "walk",
	"yaml.is_valid", "yaml.marshal", "yaml.unmarshal",
}

// Capabilities is what policies are compiled with: the allowed builtin functions, and no host to fetch anything from.
func Capabilities() *ast.Capabilities { return capabilities(ast.RegoV1) }

func capabilities(version ast.RegoVersion) *ast.Capabilities {
	c := ast.CapabilitiesForThisVersion(ast.CapabilitiesRegoVersion(version))
	c.Builtins = slices.DeleteFunc(slices.Clone(c.Builtins), func(b *ast.Builtin) bool {
		return b.IsNondeterministic() || !slices.Contains(allowed, b.Name)
	})
	c.AllowNet = []string{}
	return c
}
