"""`vqdit evaluate`: measures sets of pictures, agreement of modalities, and texts and sounds."""

from typing import Annotated

from vqdit.cli.options import (
    BATCH,
    COUNT,
    EDGE,
    FOLDER,
    NUMBER,
    ROUNDS,
    RUN,
    Repeated,
    Seed,
    choice,
    integer,
    several,
    text,
)
from vqdit.rules import SEVERAL

SET, REPORTS = text("PATH"), several(2, "REPORT")


def evaluate(
    *,
    workdir: Annotated[str | None, FOLDER] = None,
    samples: Annotated[str | None, SET] = None,
    reference: Annotated[str | None, SET] = None,
    held_out: Annotated[str | None, SET] = None,
    features: Annotated[str | None, text("NAME|FILE")] = None,
    preprocessing: Annotated[str | None, choice("clean", "pytorch", "tensorflow")] = None,
    unknown_weights: bool = False,
    size: Annotated[int | None, EDGE] = None,
    compare: Annotated[tuple[str, str] | None, REPORTS] = None,
    coherence: bool = False,
    scoring: bool = False,
    metrics: Annotated[str | None, text("NAME,NAME")] = None,
    given: Repeated = [],  # noqa: B006
    judge: Annotated[str | None, RUN] = None,
    num: Annotated[int | None, integer(SEVERAL)] = None,
    rounds: Annotated[int, ROUNDS] = 32,
    window: Annotated[int, COUNT] = 50,
    split: Annotated[str | None, text("{train,validation,test}")] = None,
    guidance: Annotated[float | None, NUMBER] = None,
    batch_size: Annotated[int, BATCH] = 64,
    seed: Seed = 0,
    out: Annotated[str, FOLDER] = "evaluation",
) -> int:
    """Measure sets of pictures, agreement of modalities, and metrics of texts and sounds.

    Pictures of any program (--samples) are compared with a --reference; report.json and report.md
    state the whole protocol. Each of these two sets is a folder of files, an .npz or .npy file
    (arrays as ADM or vqdit write them; for the reference also statistics of pytorch-fid or ADM),
    WORKDIR:SPLIT, or SOURCE:PATH such as image_folder:DIR.

    Agreement (--coherence, --scoring) uses recognisers of pictures, sounds and texts. They are
    fitted on the training data of the run, which must have classes; the report states their
    accuracy on held-out data. The metrics of texts and sounds need no classes.

    Args:
        workdir: Workdir of a run; if the config has several experiments, the last one is used.
        samples: Pictures to be measured.
        reference: Pictures or statistics with which the measured pictures are compared.
        held_out: For the metric copies: pictures of the same kind that were not used in training;
            the reference must then be the training set.
        features: Network in whose features pictures are compared: vgg-fd (the extra lpips), pixels,
            recogniser (a classifier that is trained on the classes of the reference),
            FILE.py:FUNCTION, your own function, which maps uint8 [b, h, w, 3] to features [b, d],
            or the file of the weights of FID's Inception, pt_inception-2015-12-05-6726825d.pth of
            pytorch-fid. Default: vgg-fd.
        preprocessing: How pictures are resized for Inception: as in clean-fid, in pytorch-fid or in
            TensorFlow. Default: clean.
        unknown_weights: Accept a file of weights whose checksum is not known.
        size: Edge to which pictures of both sets are cropped and resized first. Default: pictures
            are not resized, and must all have the same size.
        compare: Two reports, or their folders: prints the differences of their protocols, then of
            their metrics.
        coherence: Measure whether modalities agree, both when each is generated from each of the
            others, and when all are generated together, unconditionally.
        scoring: Measure whether the labels and texts with the best scores for held-out images are
            correct.
        metrics: Metrics of pictures: fd (Frechet distance), fid (fd in the features of Inception),
            sfid (fd in its spatial features), kid, mmd, precision, recall, density, coverage (or
            prdc, all four), is, copies (fraction of samples that are nearer to the reference than
            99 % of the --held-out pictures).
            Metrics of text: bits_per_byte (how well held-out texts are predicted), distinct,
            verbatim, entropy (of generated and of held-out texts), exact_match (of texts generated
            from the other columns of held-out examples), perplexity (under --judge). Metrics of
            sounds that are generated from a text: phrase_accuracy (an independent speech recogniser
            finds the phrase, among all phrases), note_f1 (the notes of Chorales are found).
        given: NAME, a column of the held-out examples that is given to the model in all metrics.
            Default: none; for exact_match, all other columns.
        judge: Workdir of the model that measures the perplexity of generated texts.
        num: Number of samples per measurement. Default: 500; all held-out examples for
            bits_per_byte; for metrics of pictures all --samples, or 50,000 samples of --workdir.
        rounds: Number of network evaluations for the likelihood of an example.
        window: For the metric verbatim: length in bytes of the windows that are searched in the
            training texts.
        split: Split whose examples are given and scored. Default: validation and test. Metrics can
            also be measured on train.
        guidance: Guidance scale; 1 disables guidance. Default: as in the config.
        batch_size: Samples per batch.
        seed: Seed of the noise.
        out: Folder of the results: evaluation.json, or report.json and report.md.
    """
    from vqdit.cli import run_metrics, scores

    if compare:
        print(scores.compare(compare))
        return 0
    if samples or reference or held_out or features or scores.are_of_pictures(metrics):
        if coherence or scoring:
            raise ValueError(
                "metrics of sets of pictures cannot be combined with --coherence or "
                "--scoring; omit these options"
            )
        return scores.run(
            workdir=workdir,
            samples=samples,
            reference=reference,
            held_out=held_out,
            metrics=metrics,
            features=features,
            preprocessing=preprocessing,
            unknown_weights=unknown_weights,
            num=num,
            size=size,
            guidance=guidance,
            batch_size=batch_size,
            seed=seed,
            out=out,
        )
    return run_metrics.run(
        workdir=workdir,
        coherence=coherence,
        scoring=scoring,
        metrics=metrics,
        given=given,
        judge=judge,
        num=num,
        rounds=rounds,
        window=window,
        split=split,
        guidance=guidance,
        batch_size=batch_size,
        seed=seed,
        out=out,
    )
