"""The stack as the scripts beside this file see it: what it is called, what an earlier one left, how it is deployed.

Needs boto3, PyYAML and sam, which `make` installs into target/sam.
"""

import base64
import contextlib
import json
import os
import pathlib
import subprocess
import sys

import boto3
import botocore.exceptions
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "infra" / "template.yaml"
SAM = pathlib.Path(sys.executable).parent / "sam"


class Refused(Exception):
    """What cannot be done, in words for whoever asked."""


@contextlib.contextmanager
def ending_in_words():
    """Ends the program with one line for an error that somebody can act on, and no trace."""
    try:
        yield
    except Refused as why:
        sys.exit(f"error: {why}")
    except botocore.exceptions.NoCredentialsError:
        sys.exit("error: there are no AWS credentials: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as why:
        sys.exit(f"error: {why}")


def setting(name, default=None):
    """A setting from the environment; an empty one is none."""
    value = os.environ.get(name) or default
    if value is None:
        raise Refused(f"set {name}, such as REGION=eu-central-1" if name == "REGION" else f"set {name}")
    return value


class Stack:
    """One stack in one region of one account, or on a local AWS at `endpoint`."""

    def __init__(self, name, region, endpoint=None):
        self.name, self.region, self.endpoint = name, region, endpoint
        self.session = boto3.Session(region_name=region)

    def client(self, service):
        return self.session.client(service, endpoint_url=self.endpoint)

    def account(self):
        return self.client("sts").get_caller_identity()["Account"]

    def bucket(self):
        return f"{self.name}-{self.account()}-{self.region}"

    def work_bucket(self):
        return f"{self.name}-work-{self.account()}-{self.region}"

    def description(self):
        """What CloudFormation says of the stack; nothing when there is none, or only a change set of one."""
        try:
            found = self.client("cloudformation").describe_stacks(StackName=self.name)["Stacks"][0]
        except botocore.exceptions.ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
        return None if found["StackStatus"] in ("REVIEW_IN_PROGRESS", "DELETE_COMPLETE") else found

    def outputs(self):
        found = self.description()
        if found is None:
            raise Refused(f"there is no stack {self.name} in {self.region}")
        return {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}

    def has_table(self):
        return exists(lambda: self.client("dynamodb").describe_table(TableName=self.name), "ResourceNotFoundException")

    def has_bucket(self):
        return exists(lambda: self.client("s3").head_bucket(Bucket=self.bucket()), "404", "NoSuchBucket")

    def key_arn(self):
        """The key that an earlier stack's alias names; nothing when there is none."""
        try:
            return self.client("kms").describe_key(KeyId=f"alias/{self.name}")["KeyMetadata"]["Arn"]
        except botocore.exceptions.ClientError as error:
            if error.response["Error"]["Code"] == "NotFoundException":
                return None
            raise

    def owner_key(self):
        """The first organization and its owner's key; nothing when they were made before."""
        answer = self.client("lambda").invoke(
            FunctionName=f"{self.name}-maintenance", Payload=json.dumps({"task": "owner-key"}).encode()
        )
        body = json.load(answer["Payload"])
        if "FunctionError" in answer:
            raise Refused(f"the first owner key could not be made: {body.get('errorMessage', body)}")
        return body if body and body.get("apiKey") else None


def exists(ask, *absent):
    """Whether `ask` finds something; its errors `absent` say that there is nothing."""
    try:
        ask()
    except botocore.exceptions.ClientError as error:
        if error.response["Error"]["Code"] in absent:
            return False
        raise
    return True


def left_behind(stack):
    """Parameters that let a new stack take over what an earlier one of its name has kept."""
    if stack.description() is not None:
        return {}
    table, bucket = stack.has_table(), stack.has_bucket()
    key = stack.key_arn()
    if table != bucket:
        there, gone = ("the table", "the bucket") if table else ("the bucket", "the table")
        raise Refused(
            f"{there} of an earlier stack {stack.name} is there and {gone} is not: "
            f"restore it, or choose another STACK (docs/operations.md#what-is-left)"
        )
    found = {"Data": "adopt"} if table else {}
    if key is not None:
        found["KmsKeyArn"] = key
    elif table:
        raise Refused(f"table and bucket of an earlier stack are there, but not alias/{stack.name}: give KmsKeyArn=…")
    return found


def parameters(stack, given):
    """All parameters to give to `sam deploy`: what was left behind, then what the user said, `Key=value` each."""
    found = {"Name": stack.name}
    for word in given.split():
        if "=" not in word:
            raise Refused(f"PARAMETERS are `Key=value` each, apart by spaces: {word} is none")
    said = dict(word.split("=", 1) for word in given.split())
    if "Name" in said:
        raise Refused("the name is STACK=…, not Name=…")
    try:
        found.update(left_behind(stack))
    except Refused:
        if "KmsKeyArn" not in said:
            raise
        found["Data"] = "adopt"
    found.update(said)
    return found


def with_code(code):
    """The template with every path absolute and the functions' zips from `code`: a folder with a folder for each, or one
    zip for all. Written below target/ and returned."""
    template = yaml.safe_load(TEMPLATE.read_text())
    for resource in template["Resources"].values():
        properties = resource.get("Properties", {})
        if "CodeUri" in properties:
            properties["CodeUri"] = str(zip_of(code, properties["Handler"]))
        if "DefinitionUri" in properties:
            properties["DefinitionUri"] = str(TEMPLATE.parent / properties["DefinitionUri"])
    folder = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "deploy"
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / f"template-{os.getpid()}.yaml"
    written.write_text(yaml.safe_dump(template, sort_keys=False, width=1000))
    return written


def zip_of(code, function):
    code = pathlib.Path(code).resolve()
    found = code if code.is_file() else code / function / "bootstrap.zip"
    if not found.is_file():
        raise Refused(f"{found} is not there: run `make package` first")
    return found


def sam(stack, *words):
    """Runs sam, its output going to standard error: standard output is for what the caller asked."""
    environment = dict(os.environ, SAM_CLI_TELEMETRY="0", AWS_DEFAULT_REGION=stack.region)
    if stack.endpoint:
        environment["AWS_ENDPOINT_URL"] = stack.endpoint
    done = subprocess.run([SAM, *words], env=environment, stdout=sys.stderr, check=False)
    if done.returncode != 0:
        raise Refused(f"`sam {words[0]}` has failed")


def key_of(stack, given):
    """The key that the stack has or will be given; nothing where its first deployment is still to make one."""
    found = parameters(stack, given).get("KmsKeyArn")
    return found or (stack.outputs()["KeyArn"] if stack.description() else None)


def sealed_client_secret(stack, key, file):
    """The secret in a file, as only this stack's key opens it. Its context stands in `sealed_issuer.rs` too."""
    try:
        secret = pathlib.Path(file).read_bytes().rstrip(b"\r\n")
    except OSError as why:
        raise Refused(f"OIDC_CLIENT_SECRET_FILE cannot be read: {why}") from why
    if not secret:
        raise Refused(f"{file} holds no secret")
    context = {"stack": stack.name, "use": "oidc-client-secret"}
    sealed = stack.client("kms").encrypt(KeyId=key, Plaintext=secret, EncryptionContext=context)
    return base64.b64encode(sealed["CiphertextBlob"]).decode()


def deploy(stack, code, given):
    """Deploys the template with the secret of the sign-in, if one is given: sealed, so that whoever reads the stack does not
    read it. A stack that is still to make its key is deployed without a sign-in first."""
    file = os.environ.get("OIDC_CLIENT_SECRET_FILE")
    if not file:
        deploy_template(stack, code, given)
        return
    if key_of(stack, given) is None:
        deploy_template(stack, code, " ".join(word for word in given.split() if not word.startswith("Oidc")))
    secret = sealed_client_secret(stack, key_of(stack, given), file)
    deploy_template(stack, code, f"{given} OidcClientSecret={secret}")


def deploy_template(stack, code, given):
    """Checks and deploys the template; does nothing where nothing has changed."""
    overrides = [f"{name}={value}" for name, value in parameters(stack, given).items()]
    template = with_code(code)
    try:
        sam(stack, "deploy", "--template-file", str(template), "--stack-name", stack.name, "--region", stack.region,
            "--resolve-s3", "--s3-prefix", stack.name, "--capabilities", "CAPABILITY_NAMED_IAM", "--no-confirm-changeset",
            "--no-fail-on-empty-changeset", "--no-progressbar", "--parameter-overrides", *overrides)
    finally:
        template.unlink()
