//! Templates as documents, and documents brought up to date.

use super::*;
use capomastro_core::ErrorKind;
use proptest::prelude::*;

/// As a 2.568 writes it, with things that people and plugins have put in.
const EDITED: &str = "<?xml version='1.1' encoding='UTF-8'?>
<!-- kept -->
<project>
  <actions/>
  <description>Ein C1-Zeichen: &#x85;, ein Gr&#xfc;n, <![CDATA[<b>roh</b>]]> &amp; &quot;so&quot;</description>
  <keepDependencies>false</keepDependencies>
  <properties>
    <com.example.Owner plugin=\"owner@1.2\">
      <name>Jos\u{e9}</name>
    </com.example.Owner>
    <hudson.model.ParametersDefinitionProperty>
      <parameterDefinitions>
        <hudson.model.StringParameterDefinition>
          <name>CAPOMASTRO_SCRIPT</name>
          <description>old words</description>
          <defaultValue>old-script</defaultValue>
          <trim>true</trim>
          <hint>kept too</hint>
        </hudson.model.StringParameterDefinition>
        <hudson.model.ChoiceParameterDefinition>
          <name>THEIRS</name>
          <choices class=\"java.util.Arrays$ArrayList\">
            <a class=\"string-array\">
              <string>a</string>
            </a>
          </choices>
        </hudson.model.ChoiceParameterDefinition>
        <hudson.model.TextParameterDefinition>
          <name>CAPOMASTRO_BUILD_ID</name>
        </hudson.model.TextParameterDefinition>
        <hudson.model.StringParameterDefinition>
          <name>CAPOMASTRO_SCRIPT</name>
          <defaultValue>a second one</defaultValue>
        </hudson.model.StringParameterDefinition>
        <hudson.model.StringParameterDefinition>
          <name>THEIRS</name>
        </hudson.model.StringParameterDefinition>
      </parameterDefinitions>
    </hudson.model.ParametersDefinitionProperty>
  </properties>
  <scm class=\"hudson.scm.NullSCM\"/>
  <canRoam>true</canRoam>
  <builders>
    <hudson.tasks.Shell>
      <command>echo 1 &gt; &apos;my own&apos;</command>
    </hudson.tasks.Shell>
  </builders>
  <publishers/>
</project>
";

fn template() -> JobTemplate {
    JobTemplate::new("https://git.example/types.git", "lib", "build")
}

fn all_set() -> JobTemplate {
    template()
        .parameter(Parameter::choice("FLAVOUR", ["a & b", "<c>"]))
        .parameter(Parameter::boolean("DEBUG"))
        .parameter(Parameter::text("NOTES").default_value("one\ntwo é\u{85}").described("\"quoted\" 'too'"))
        .notifying(Endpoint::Url(Secret::new("https://capo.example/hooks/0123456789abcdefABCDEF")))
        .described("Builds the library")
        .labelled("linux && lxc")
        .rotating(Rotation { days: Some(30), builds: Some(500) })
        .quiet(Duration::from_secs(10))
        .concurrent(true)
        .keeping("out/**")
}

fn merged(template: &JobTemplate, xml: &str) -> Merged {
    template.merged_into(xml.as_bytes()).unwrap()
}

/// The texts at a path of elements, in order.
fn texts(xml: &str, path: &str) -> Vec<String> {
    let document = xml::Document::parse(xml.as_bytes()).unwrap();
    let mut places = vec![0];
    for name in path.split('/') {
        places = places.into_iter().flat_map(|p| document.children(p, name)).collect();
    }
    places.into_iter().map(|p| document.at(p).text.clone()).collect()
}

const DEFINITIONS: &str = "properties/hudson.model.ParametersDefinitionProperty/parameterDefinitions";
const STRINGS: &str = "properties/hudson.model.ParametersDefinitionProperty/parameterDefinitions/hudson.model.StringParameterDefinition";
const ENDPOINTS: &str = "properties/com.tikal.hudson.plugins.notification.HudsonNotificationProperty/endpoints/com.tikal.hudson.plugins.notification.Endpoint";

#[test]
fn a_job_from_nothing_says_all_that_the_template_says() {
    let xml = all_set().config_xml().unwrap();
    assert!(xml.starts_with("<?xml version='1.1' encoding='UTF-8'?>\n<project>\n"));
    let names = texts(&xml, &format!("{STRINGS}/name"));
    let expected = [
        "CAPOMASTRO_BUILD_ID",
        "CAPOMASTRO_REVISION",
        "CAPOMASTRO_REQUESTER",
        "CAPOMASTRO_DEPENDENCY",
        "CAPOMASTRO_JOB_TYPE",
        "CAPOMASTRO_BRANCH",
        "CAPOMASTRO_JOB_TYPE_REVISION",
        "CAPOMASTRO_SCRIPT",
    ];
    assert_eq!(names, expected);
    assert_eq!(texts(&xml, &format!("{STRINGS}/trim")), ["false"; 8]);
    let defaults = texts(&xml, &format!("{STRINGS}/defaultValue"));
    assert_eq!(defaults, ["", "", "", "", "https://git.example/types.git", "lib", "", "build"]);
    for (path, expected) in [
        ("description", "Builds the library"),
        ("quietPeriod", "10"),
        ("assignedNode", "linux && lxc"),
        ("canRoam", "false"),
        ("disabled", "false"),
        ("concurrentBuild", "true"),
        ("publishers/hudson.tasks.ArtifactArchiver/artifacts", "out/**"),
        ("properties/jenkins.model.BuildDiscarderProperty/strategy/daysToKeep", "30"),
        ("properties/jenkins.model.BuildDiscarderProperty/strategy/numToKeep", "500"),
        (&format!("{ENDPOINTS}/urlInfo/urlOrId"), "https://capo.example/hooks/0123456789abcdefABCDEF"),
        (&format!("{ENDPOINTS}/urlInfo/urlType"), "PUBLIC"),
        (&format!("{ENDPOINTS}/format"), "JSON"),
        (&format!("{ENDPOINTS}/event"), "all"),
        (&format!("{DEFINITIONS}/hudson.model.BooleanParameterDefinition/defaultValue"), "false"),
        (&format!("{DEFINITIONS}/hudson.model.TextParameterDefinition/defaultValue"), "one\ntwo é\u{85}"),
        (&format!("{DEFINITIONS}/hudson.model.TextParameterDefinition/description"), "\"quoted\" 'too'"),
        ("builders/hudson.tasks.Shell/command", &all_set().shell_step().unwrap()),
    ] {
        assert_eq!(texts(&xml, path), [expected], "{path}");
    }
    let choices = format!("{DEFINITIONS}/hudson.model.ChoiceParameterDefinition/choices/a/string");
    assert_eq!(texts(&xml, &choices), ["a & b", "<c>"]);
}

#[test]
fn a_job_that_has_it_all_is_left_as_it_is() {
    for template in [template(), all_set(), template().for_probes(), all_set().for_probes()] {
        let xml = template.config_xml().unwrap();
        let again = merged(&template, &xml);
        assert_eq!(again.changes, []);
        assert_eq!(again.xml, xml);
    }
}

#[test]
fn what_people_added_is_kept_byte_for_byte() {
    let merged = merged(&template(), EDITED);
    for kept in [
        "<?xml version='1.1' encoding='UTF-8'?>\n<!-- kept -->\n<project>\n  <actions/>\n",
        "<description>Ein C1-Zeichen: &#x85;, ein Gr&#xfc;n, <![CDATA[<b>roh</b>]]> &amp; &quot;so&quot;</description>",
        "    <com.example.Owner plugin=\"owner@1.2\">\n      <name>Jos\u{e9}</name>\n    </com.example.Owner>\n",
        "          <hint>kept too</hint>\n",
        "          <name>THEIRS</name>\n          <choices class=\"java.util.Arrays$ArrayList\">\n            <a class",
        "<command>echo 1 &gt; &apos;my own&apos;</command>",
        "  <canRoam>true</canRoam>\n",
        "  <publishers/>\n</project>\n",
    ] {
        assert!(merged.xml.contains(kept), "{kept}\n---\n{}", merged.xml);
    }
    assert_eq!(merged.declared_twice, ["THEIRS"]);
    let mut names = texts(&merged.xml, &format!("{STRINGS}/name"));
    names.sort();
    assert_eq!(
        names,
        [
            "CAPOMASTRO_BRANCH",
            "CAPOMASTRO_BUILD_ID",
            "CAPOMASTRO_DEPENDENCY",
            "CAPOMASTRO_JOB_TYPE",
            "CAPOMASTRO_JOB_TYPE_REVISION",
            "CAPOMASTRO_REQUESTER",
            "CAPOMASTRO_REVISION",
            "CAPOMASTRO_SCRIPT",
            "THEIRS",
        ]
    );
    assert!(!merged.xml.contains("a second one") && !merged.xml.contains("old-script"));
    assert!(merged.xml.contains(
        "          <defaultValue>build</defaultValue>\n          <trim>false</trim>\n          <hint>"
    ));
    for change in [
        Change::Updated("parameter CAPOMASTRO_SCRIPT".into()),
        Change::Removed("another definition of parameter CAPOMASTRO_SCRIPT".into()),
        Change::Updated("parameter CAPOMASTRO_BUILD_ID".into()),
        Change::Added("parameter CAPOMASTRO_REVISION".into()),
        Change::Added("shell step".into()),
    ] {
        assert!(merged.changes.contains(&change), "{change:?} in {:?}", merged.changes);
    }
    let commands = texts(&merged.xml, "builders/hudson.tasks.Shell/command");
    assert_eq!(commands, ["echo 1 > 'my own'".to_owned(), template().shell_step().unwrap()]);
}

#[test]
fn merging_twice_is_merging_once() {
    for template in [template(), all_set(), template().for_probes()] {
        let once = merged(&template, EDITED);
        let twice = merged(&template, &once.xml);
        assert_eq!((twice.changes, twice.xml), (vec![], once.xml));
    }
}

#[test]
fn what_is_missing_is_put_under_the_properties_and_nowhere_else() {
    let cases = [
        "<project/>",
        "<project></project>",
        "<project><properties/></project>",
        "<project><properties></properties></project>",
        "<?xml version=\"1.0\"?><project>\n  <properties/>\n</project>",
        "<project>\n  <properties>\n  </properties>\n</project>",
        "<project><properties><hudson.model.ParametersDefinitionProperty/></properties></project>",
        "<project><properties><hudson.model.ParametersDefinitionProperty><parameterDefinitions/></hudson.model.ParametersDefinitionProperty></properties></project>",
        "<project plugin='a@1'><x/><properties class='p'><y/></properties><z>é</z></project>",
        "\u{feff}<project>\r\n\t<properties>\r\n\t\t<y/>\r\n\t</properties>\r\n</project>",
        // What the first Capomastro did wrong: it says nothing to Jenkins, and stays.
        "<project><hudson.model.ParametersDefinitionProperty><parameterDefinitions/></hudson.model.ParametersDefinitionProperty></project>",
        "<flow-definition plugin=\"workflow-job@1\"><properties/><definition class=\"x\"><script>node {}</script></definition></flow-definition>",
    ];
    for case in cases {
        for template in [template(), all_set()] {
            let merged = merged(&template, case);
            let names = texts(&merged.xml, &format!("{STRINGS}/name"));
            assert_eq!(names.len(), 8, "{case}\n{}", merged.xml);
            assert_eq!(texts(&merged.xml, "properties").len(), 1, "{case}");
            let again = template.merged_into(merged.xml.as_bytes()).unwrap();
            assert_eq!((again.changes, again.xml.as_str()), (vec![], merged.xml.as_str()), "{case}");
        }
    }
}

#[test]
fn a_pipeline_keeps_its_steps_and_gets_the_rest() {
    let script = "<definition class=\"org.jenkinsci.plugins.workflow.cps.CpsFlowDefinition\" plugin=\"workflow-cps@1\">\n    <script>node { sh &apos;make&apos; }</script>\n    <sandbox>true</sandbox>\n  </definition>";
    let one_at_a_time = "<org.jenkinsci.plugins.workflow.job.properties.DisableConcurrentBuildsJobProperty/>";
    let pipeline = format!(
        "<?xml version='1.1' encoding='UTF-8'?>\n<flow-definition plugin=\"workflow-job@1\">\n  <properties>\n    {one_at_a_time}\n  </properties>\n  {script}\n</flow-definition>\n"
    );
    let free = merged(&all_set(), &pipeline);
    assert!(free.xml.contains(script) && !free.xml.contains("DisableConcurrent"), "{}", free.xml);
    for none in ["builders", "assignedNode", "concurrentBuild", "publishers"] {
        assert!(texts(&free.xml, none).is_empty(), "{none}");
    }
    assert_eq!(texts(&free.xml, "quietPeriod"), ["10"]);
    assert_eq!(texts(&free.xml, &format!("{ENDPOINTS}/format")), ["JSON"]);
    let bound = merged(&template().concurrent(false), &free.xml);
    assert!(bound.xml.contains(one_at_a_time));
    assert!(merged(&template(), &bound.xml).xml.contains(one_at_a_time), "what is not said is left as it is");
}

#[test]
fn an_endpoint_is_known_by_its_address_and_follows_a_new_secret() {
    let old = |inside: &str| {
        format!(
            "<project><properties><com.tikal.hudson.plugins.notification.HudsonNotificationProperty plugin=\"notification@1\"><endpoints>\
             <com.tikal.hudson.plugins.notification.Endpoint><url>http://theirs.example/x</url></com.tikal.hudson.plugins.notification.Endpoint>\
             {inside}</endpoints></com.tikal.hudson.plugins.notification.HudsonNotificationProperty></properties></project>"
        )
    };
    let ours = |body: &str| {
        format!(
            "<com.tikal.hudson.plugins.notification.Endpoint>{body}</com.tikal.hudson.plugins.notification.Endpoint>"
        )
    };
    let current = "https://capo.example/hooks/0123456789abcdefABCDEF";
    let cases = [
        (String::new(), "Added"),
        // The form of 2014.
        (
            ours(
                "<protocol>HTTP</protocol><format>XML</format><url>https://capo.example/hooks/oldsecretoldsecretold00</url><timeout>1</timeout>",
            ),
            "Updated",
        ),
        (
            ours(
                "<urlInfo><urlOrId>https://capo.example/hooks/oldsecretoldsecretold00</urlOrId><urlType>PUBLIC</urlType></urlInfo><timeout>1</timeout>",
            ),
            "Updated",
        ),
    ];
    for (inside, expected) in cases {
        let merged = merged(&all_set(), &old(&inside));
        assert!(
            merged.changes.iter().any(|c| format!("{c:?}").contains(&format!("{expected}(\"notification"))),
            "{merged:?}"
        );
        assert_eq!(texts(&merged.xml, &format!("{ENDPOINTS}/urlInfo/urlOrId")), [current]);
        assert_eq!(texts(&merged.xml, &format!("{ENDPOINTS}/url")), ["http://theirs.example/x"]);
        assert!(!merged.xml.contains("oldsecret"));
        assert_eq!(
            inside.contains("<timeout>1<"),
            merged.xml.contains("<timeout>1<"),
            "how long is theirs to say"
        );
        assert!(!format!("{:?}", merged.changes).contains("0123456789"));
    }
    let twice = old(&ours(&format!("<url>{current}</url>")).repeat(2));
    let once = merged(&all_set(), &twice);
    assert_eq!(texts(&once.xml, &format!("{ENDPOINTS}/urlInfo/urlOrId")), [current]);
    assert!(
        once.changes.contains(&Change::Removed("another notification endpoint of the same address".into()))
    );
}

#[test]
fn a_step_of_ours_is_found_wherever_it_was_put() {
    let xml = template().config_xml().unwrap();
    let (front, rest) = xml.split_once("<builders>").unwrap();
    let (builders, back) = rest.split_once("</builders>").unwrap();
    let moved = format!(
        "{front}<builders><a/><conditional><steps>{builders}</steps></conditional>{builders}</builders>{back}"
    );
    let other = JobTemplate { isolation: Isolation::Copy { base: "bookworm".into() }, ..template() };
    let merged = merged(&other, &moved);
    assert!(merged.xml.contains("capo_isolation='copy'") && !merged.xml.contains("capo_isolation='direct'"));
    let at = "builders/conditional/steps/hudson.tasks.Shell/command";
    assert_eq!(texts(&merged.xml, at), [other.shell_step().unwrap()]);
    assert!(texts(&merged.xml, "builders/hudson.tasks.Shell").is_empty(), "the second one is gone");
}

#[test]
fn an_old_log_rotation_is_changed_where_it_stands() {
    let xml = "<project><logRotator class=\"hudson.tasks.LogRotator\"><daysToKeep>-1</daysToKeep><numToKeep>3</numToKeep><artifactNumToKeep>1</artifactNumToKeep></logRotator></project>";
    let merged_xml = merged(&all_set(), xml).xml;
    assert_eq!(texts(&merged_xml, "logRotator/daysToKeep"), ["30"]);
    assert_eq!(texts(&merged_xml, "logRotator/numToKeep"), ["500"]);
    assert_eq!(texts(&merged_xml, "logRotator/artifactNumToKeep"), ["1"]);
    assert!(texts(&merged_xml, "properties/jenkins.model.BuildDiscarderProperty").is_empty());
    let own = "<project><properties><jenkins.model.BuildDiscarderProperty><strategy class=\"their.Own\"><days>1</days></strategy></jenkins.model.BuildDiscarderProperty></properties></project>";
    let merged_xml = merged(&all_set(), own).xml;
    assert_eq!(
        texts(&merged_xml, "properties/jenkins.model.BuildDiscarderProperty/strategy/daysToKeep"),
        ["30"]
    );
    assert!(merged(&template(), own).xml.contains("their.Own"));
}

#[test]
fn other_kinds_of_jobs_and_bad_documents_are_refused() {
    for (xml, kind) in [
        ("<maven2-moduleset/>", ErrorKind::InvalidConfig),
        ("<html><body>log in</body></html>", ErrorKind::InvalidConfig),
        ("<project>", ErrorKind::Corrupt),
        ("", ErrorKind::Corrupt),
    ] {
        let error = template().merged_into(xml.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), kind, "{xml}");
    }
}

#[test]
fn what_a_template_cannot_mean_is_refused_with_what_to_do() {
    let isolated = |container: Container| template().isolated(Isolation::Execute(container));
    let cases: Vec<(JobTemplate, &str)> = vec![
        (template().parameter(Parameter::string("BUILD_ID")), "Jenkins"),
        (template().parameter(Parameter::string("a b")), "variable"),
        (template().parameter(Parameter::string("x; rm -rf")), "variable"),
        (template().parameter(Parameter::string("CAPOMASTRO_SCRIPT")), "twice"),
        (template().parameter(Parameter::string("A").default_value("a\nb")), "text parameter"),
        (template().parameter(Parameter::string("A").default_value("a\u{1}")), "control"),
        (template().parameter(Parameter::boolean("A").default_value("yes")), "true"),
        (template().parameter(Parameter::choice("A", Vec::<String>::new())), "choice"),
        (template().described("\u{0}"), "control"),
        (template().quiet(Duration::from_millis(1_500)), "whole seconds"),
        (template().quiet(Duration::from_secs(90_000)), "a day"),
        (template().rotating(Rotation { days: Some(0), builds: None }), "keep"),
        (template().notifying(Endpoint::Url(Secret::new("capo.example/x"))), "address"),
        (template().notifying(Endpoint::Credential(String::new())), "id"),
        (isolated(Container::Config("relative".into())), "absolute"),
        (isolated(Container::Rootfs("/a\nlxc.hook.start-host = /bin/sh".into())), "absolute"),
        (template().isolated(Isolation::Copy { base: "a;b".into() }), "container"),
        (JobTemplate { through: vec!["sudo".into(), "$(x)".into()], ..template() }, "word"),
        (JobTemplate { mounted_at: "../etc".into(), ..template() }, "mount"),
        (JobTemplate { mounted_at: "/mnt".into(), ..template() }, "mount"),
        (JobTemplate { lxc_path: Some("lxc".into()), ..template() }, "absolute"),
        (JobTemplate { grace: Duration::ZERO, ..template() }, "grace"),
        (JobTemplate { id_parameter: "BUILD_ID".into(), ..template() }, "Jenkins"),
    ];
    for (template, expected) in cases {
        let error = template.config_xml().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
        assert!(error.message().contains(expected), "{error} has not {expected}");
        assert!(template.merged_into(b"<project/>").is_err() && template.shell_step().is_err());
    }
}

#[test]
fn no_address_is_shown() {
    assert!(!format!("{:?}", all_set()).contains("0123456789abcdef"));
}

#[test]
fn nothing_that_people_say_stands_in_the_step() {
    let template = JobTemplate::new("$(touch a)", "`touch b`", "'; touch c; '")
        .parameter(Parameter::string("OWN").default_value("$(touch d)"))
        .described("$(touch e)");
    let step = template.shell_step().unwrap();
    for said in ["touch a", "touch b", "touch c", "touch d", "touch e"] {
        assert!(!step.contains(said), "{said}");
    }
}

fn any_text() -> impl Strategy<Value = String> {
    proptest::collection::vec(
        prop_oneof![
            Just('<'),
            Just('&'),
            Just(']'),
            Just('\''),
            Just('"'),
            Just('\n'),
            Just('\t'),
            Just('\u{85}'),
            Just('\u{2028}'),
            any::<char>().prop_filter("what XML can hold", |c| !c.is_ascii_control()
                && !matches!(c, '\u{fffe}' | '\u{ffff}')),
        ],
        0..20,
    )
    .prop_map(String::from_iter)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_texts_come_through(description in any_text(), default in any_text(), label in any_text()) {
        let template = template()
            .described(&description)
            .labelled(&label)
            .parameter(Parameter::text("NOTES").default_value(&default).described(&description));
        for xml in [template.config_xml().unwrap(), merged(&template, EDITED).xml] {
            prop_assert_eq!(texts(&xml, "description"), [description.as_str()]);
            prop_assert_eq!(texts(&xml, "assignedNode"), [label.as_str()]);
            let at = format!("{DEFINITIONS}/hudson.model.TextParameterDefinition/defaultValue");
            let defaults = texts(&xml, &at);
            prop_assert_eq!(defaults, [default.as_str()]);
            let again = merged(&template, &xml);
            prop_assert_eq!((again.changes, again.xml), (vec![], xml));
        }
    }

    #[test]
    fn no_document_makes_it_panic(start in 0..EDITED.len(), end in 0..EDITED.len(), with in any_text()) {
        let mut bytes = EDITED.as_bytes().to_vec();
        bytes.splice(start.min(end)..end.max(start), with.bytes());
        if let Ok(merged) = all_set().merged_into(&bytes) {
            prop_assert!(xml::Document::parse(merged.xml.as_bytes()).is_ok());
        }
    }
}
