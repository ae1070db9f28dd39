package dev.metamorph.catalogue;

import java.lang.reflect.Field;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.common.config.ConfigDef.ConfigKey;
import org.apache.kafka.common.utils.AppInfoParser;

/**
 * Prints the broker's configuration definition, one key a line and sorted by name, so that two
 * versions can be compared with diff. Everything comes from the classes of the Kafka on the class
 * path; what its validators keep private is read by reflection, and a rule that the catalogue cannot
 * hold is named on stderr.
 */
public final class Export {
  public static void main(String[] args) throws Exception {
    Map<String, String> dynamic = updateModes();
    Map<String, ConfigKey> keys = new TreeMap<>(brokerConfig().configKeys());

    StringBuilder out = new StringBuilder();
    out.append("{\"product\":\"kafka\",\"version\":").append(quote(AppInfoParser.getVersion()));
    out.append(",\"source\":\"ConfigDef of kafka.server.KafkaConfig\",\"keys\":[\n");
    String separator = "";
    for (ConfigKey key : keys.values()) {
      out.append(separator).append(line(key, dynamic.getOrDefault(key.name, "read-only")));
      separator = ",\n";
    }
    System.out.println(out.append("\n]}"));
  }

  private static String line(ConfigKey key, String dynamic) throws Exception {
    Rule rule = new Rule();
    rule.add(key);

    List<String> fields = new ArrayList<>();
    fields.add("\"name\":" + quote(key.name));
    fields.add("\"type\":" + quote(key.type.name()));
    if (!key.hasDefault()) {
      fields.add("\"required\":true");
    } else if (key.defaultValue != null) {
      fields.add("\"default\":" + quote(ConfigDef.convertToString(key.defaultValue, key.type)));
    }
    if (rule.min != null) fields.add("\"min\":" + number(rule.min));
    if (rule.max != null) fields.add("\"max\":" + number(rule.max));
    if (!rule.valid.isEmpty()) fields.add("\"valid\":" + array(rule.valid));
    if (rule.anyCase) fields.add("\"anyCase\":true");
    if (rule.nonEmpty) fields.add("\"nonEmpty\":true");
    if (rule.unique) fields.add("\"unique\":true");
    fields.add("\"importance\":" + quote(key.importance.name().toLowerCase()));
    if (key.type == ConfigDef.Type.PASSWORD) fields.add("\"sensitive\":true");
    if (key.internalConfig) fields.add("\"internal\":true");
    if (!dynamic.equals("read-only")) fields.add("\"dynamic\":" + quote(dynamic));
    return "{" + String.join(",", fields) + "}";
  }

  /** By name, because the published jars declare what KafkaConfig inherits from for run time only. */
  private static ConfigDef brokerConfig() throws Exception {
    return (ConfigDef) Class.forName("kafka.server.KafkaConfig").getMethod("configDef").invoke(null);
  }

  /** How each key may change at run time. Up to 4.1 the method is a Scala object's, later a Java class's. */
  @SuppressWarnings("unchecked")
  private static Map<String, String> updateModes() throws Exception {
    Class<?> owner;
    Object self = null;
    try {
      owner = Class.forName("kafka.server.DynamicBrokerConfig$");
      owner.getMethod("dynamicConfigUpdateModes");
      self = owner.getField("MODULE$").get(null);
    } catch (ClassNotFoundException | NoSuchMethodException moved) {
      owner = Class.forName("org.apache.kafka.server.config.DynamicBrokerConfig");
    }
    return (Map<String, String>) owner.getMethod("dynamicConfigUpdateModes").invoke(self);
  }

  /** What a key's validators demand, in the words that the catalogue has. */
  private static final class Rule {
    private Number min;
    private Number max;
    private final List<String> valid = new ArrayList<>();
    private boolean anyCase;
    private boolean nonEmpty;
    private boolean unique;

    private void add(ConfigKey key) throws Exception {
      if (!add(key.validator) && key.type == ConfigDef.Type.INT) probe(key);
    }

    /** For a rule in code (a compression level: -1, or 1 to 9), asks which of the small numbers pass. */
    private void probe(ConfigKey key) {
      for (int i = -64; i <= 64; i++) {
        try {
          key.validator.ensureValid(key.name, i);
          valid.add(Integer.toString(i));
        } catch (RuntimeException refused) {
          // Not one of them.
        }
      }
      if (valid.size() > 32) {
        // Open to above: keep where it begins.
        min = Integer.valueOf(valid.get(0));
        valid.clear();
      }
    }

    /** Whether the validator is one whose rule the catalogue can hold. */
    private boolean add(ConfigDef.Validator validator) throws Exception {
      if (validator == null) return true;
      String kind = validator.getClass().getSimpleName();
      switch (kind) {
        case "Range":
          min = tighter(min, (Number) read(validator, "min"));
          max = tighter(max, (Number) read(validator, "max"));
          break;
        case "ValidString":
          addAll(read(validator, "validStrings"));
          break;
        case "CaseInsensitiveValidString":
          anyCase = true;
          addAll(read(validator, "validStrings"));
          break;
        case "ValidList":
          addAll(read(read(validator, "validString"), "validStrings"));
          // From 4.2 on, lists are also judged for what is empty or comes twice.
          unique = has(validator, "isEmptyAllowed");
          nonEmpty = unique && !(boolean) read(validator, "isEmptyAllowed");
          break;
        case "CompositeValidator":
          boolean all = true;
          for (Object part : (Collection<?>) read(validator, "validators")) all &= add((ConfigDef.Validator) part);
          return all;
        case "NonEmptyString":
        case "NonEmptyStringWithoutControlChars":
          nonEmpty = true;
          break;
        case "NonNullValidator":
          // A line in a properties file always has a value.
          break;
        default:
          System.err.println("  no rule for " + validator.getClass().getName());
          return false;
      }
      return true;
    }

    private void addAll(Object strings) {
      for (Object s : (Collection<?>) strings) valid.add(String.valueOf(s));
      valid.sort(null);
    }

    private static Number tighter(Number known, Number found) {
      if (known != null && found != null) throw new IllegalStateException("two ranges on one key");
      return known != null ? known : found;
    }
  }

  private static Object read(Object from, String field) throws Exception {
    Field f = from.getClass().getDeclaredField(field);
    f.setAccessible(true);
    return f.get(from);
  }

  private static boolean has(Object object, String field) {
    for (Field f : object.getClass().getDeclaredFields()) if (f.getName().equals(field)) return true;
    return false;
  }

  private static String number(Number n) {
    return n.doubleValue() == n.longValue() && n.longValue() != Long.MAX_VALUE
        ? Long.toString(n.longValue())
        : n.toString();
  }

  private static String array(List<String> values) {
    List<String> quoted = new ArrayList<>();
    for (String v : values) quoted.add(quote(v));
    return "[" + String.join(",", quoted) + "]";
  }

  private static String quote(String s) {
    StringBuilder b = new StringBuilder("\"");
    for (char c : s.toCharArray()) {
      if (c == '"' || c == '\\') b.append('\\').append(c);
      else if (c < ' ') b.append(String.format("\\u%04x", (int) c));
      else b.append(c);
    }
    return b.append('"').toString();
  }

  private Export() {}
}
