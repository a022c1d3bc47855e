"""The table of named methods: which part each one has on which axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from offramp.errors import UserError, guess, shown
from offramp.forks import Equilibrium, Partition, Rotation
from offramp.methods._composing import compose
from offramp.methods.balancers.auto_lambda import AutoLambda
from offramp.methods.balancers.dtp import DTP
from offramp.methods.balancers.dwa import DWA
from offramp.methods.balancers.famo import FAMO
from offramp.methods.balancers.gradnorm import GradNorm
from offramp.methods.balancers.imtl_l import IMTLL
from offramp.methods.balancers.random_weights import RandomWeights
from offramp.methods.balancers.scalarize import Scalarize
from offramp.methods.balancers.uncertainty import Uncertainty
from offramp.methods.combiners.adatask import AdaTask
from offramp.methods.combiners.aggregate import Aggregate
from offramp.methods.combiners.aligned_mtl import AlignedMTL
from offramp.methods.combiners.cagrad import CAGrad
from offramp.methods.combiners.fairgrad import FairGrad
from offramp.methods.combiners.getmtl import GetMTL
from offramp.methods.combiners.graddrop import GradDrop
from offramp.methods.combiners.gradient_remedy import GradientRemedy
from offramp.methods.combiners.gradvac import GradVac
from offramp.methods.combiners.imtl import IMTL
from offramp.methods.combiners.mgda import MGDA
from offramp.methods.combiners.mgda_ub import MGDAUB
from offramp.methods.combiners.nash_mtl import NashMTL
from offramp.methods.combiners.pcgrad import PCGrad
from offramp.methods.combiners.upgrad import UPGrad
from offramp.methods.combiners.windows import Windows
from offramp.methods.loops import DRMGF, Bilevel, MetaGF
from offramp.methods.method import Method
from offramp.methods.objectives.dense_distillation import DenseDistillation
from offramp.methods.objectives.distillation import Distillation
from offramp.methods.objectives.divergence import DivergenceDistillation
from offramp.methods.objectives.early_leaving import EarlyLeaving
from offramp.methods.objectives.exit_ensemble import ExitEnsembleDistillation
from offramp.methods.objectives.later_distillation import LaterDistillation
from offramp.methods.objectives.mean_of_heads import MeanOfHeads
from offramp.methods.objectives.one_for_all import OneForAll
from offramp.methods.objectives.ramp import Ramp
from offramp.methods.objectives.sample_weights import SampleWeights
from offramp.methods.objectives.self_distillation import SelfDistillation, SelfDistillationICCV
from offramp.methods.objectives.survivors import Survivors
from offramp.methods.regimes.branch_wise import BranchWise
from offramp.methods.regimes.disjoint import Disjoint
from offramp.methods.regimes.imta_2 import InlineCollaboration
from offramp.methods.regimes.mixed import Mixed
from offramp.methods.regimes.ztw import ZeroTimeWaste

__all__ = ["METHODS", "Method", "method"]

# all of the authors' scripts hand these on from stage to stage
SCRIPTS: dict[str, Any] = {"optimizers": "shared", "statistics": "carried"}

METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        Method("joint", "the plain sum of all exits' losses (DSN)", "Lee et al., AISTATS 2015"),
        Method(
            "separate",
            "a yardstick: one network per exit, with nothing shared, each trained on its own loss",
            "a control, no paper",
            separate=True,
        ),
        Method(
            "mixed",
            "the backbone alone for half of the epochs, then everything jointly",
            "Kubaty et al., ICML 2025",
            {"regime": Mixed()},
        ),
        Method(
            "disjoint",
            "the backbone alone for half of the epochs, then the earlier heads on the frozen backbone",
            "Kubaty et al., ICML 2025",
            {"regime": Disjoint()},
        ),
        Method(
            "ztw",
            "heads on a trained, frozen backbone, each of which reads the one before; then ensembles of them",
            "Wolczyk et al., NeurIPS 2021; Wojcik et al., Neural Networks 2023",
            {"objective": MeanOfHeads(), "regime": ZeroTimeWaste()},
            rows={MeanOfHeads: "ztw", ZeroTimeWaste: "ztw"},
        ),
        Method(
            "imta-2",
            "IMTA's second stage: classifiers on a frozen net read each other; its own last exit teaches",
            "Li et al. (IMTA), ICCV 2019",
            {"objective": OneForAll(), "regime": InlineCollaboration()},
            rows={OneForAll: "imta-2", InlineCollaboration: "imta-2"},
        ),
        Method(
            "branch-wise",
            "one exit after the other, each on the frozen stages before it",
            "Kubaty et al., ICML 2025, after the literature",
            {"regime": BranchWise()},
        ),
        Method(
            "dfs",
            "Deep Feature Surgery: partition each exit's features, cut the gradients that conflict",
            "Gong et al., ECCV 2024",
            {"fork": Partition()},
        ),
        Method(
            "dfs-no-reference",
            "Deep Feature Surgery without feature referencing: who does not train a channel does not read it",
            "Gong et al., ECCV 2024, Eq 6",
            {"fork": Partition(reference="zero")},
        ),
        Method(
            "ge",
            "gradient equilibrium: every block gets the mean of the gradients of the exits behind it",
            "Li et al. (IMTA), ICCV 2019",
            {"fork": Equilibrium()},
        ),
        Method(
            "rotograd",
            "heads read the feature through learned rotations, under which their gradients agree",
            "Javaloy and Valera, ICLR 2022",
            {"fork": Rotation()},
        ),
        Method(
            "kd",
            "each exit also learns what the last one says, at a temperature that grows with its confidence",
            "Phuong and Lampert, ICCV 2019",
            {"objective": Distillation()},
        ),
        Method(
            "kd-msdnet",
            "each exit learns mostly what the last one says, at a constant temperature",
            "Li et al. (IMTA), ICCV 2019",
            {"objective": DivergenceDistillation()},
        ),
        Method(
            "shallow-kd",
            "gradient equilibrium; the last exit teaches the shallow half, and the first exit weighs more",
            "ours, measured in results/hunt",
            {
                "fork": Equilibrium(),
                "objective": Distillation(taught="half", weights={"exit 1": 1.5}),
            },
            rows={Equilibrium: "shallow-kd", Distillation: "shallow-kd"},
        ),
        Method(
            "backbone-then-kd",
            "a quarter of the epochs for the backbone; then the last exit teaches all but its neighbour",
            "ours, measured in results/hunt",
            {
                "objective": Distillation(taught="all-but-two"),
                "regime": Mixed(backbone_share=0.25),
            },
            rows={Distillation: "backbone-then-kd", Mixed: "backbone-then-kd"},
        ),
        Method(
            "byot",
            "self-distillation: the last exit teaches its probabilities and its features (journal recipe)",
            "Zhang et al., TPAMI 2022",
            {"objective": SelfDistillation()},
        ),
        Method(
            "byot-iccv",
            "self-distillation by the recipe of the ICCV paper's public re-implementation",
            "Zhang et al., ICCV 2019",
            {"objective": SelfDistillationICCV()},
        ),
        Method(
            "distill-later",
            "each exit also learns what every later exit says",
            "Wang and Li, AAAI 2021; Zero Time Waste's code",
            {"objective": LaterDistillation()},
        ),
        Method(
            "hdkd",
            "each exit also learns what every later exit says, as much as it helps on held-out samples",
            "Wang and Li, AAAI 2021",
            {"objective": DenseDistillation(), "loop": Bilevel(held_out=0.1)},
            rows={DenseDistillation: "hdkd", Bilevel: "hdkd"},
        ),
        Method(
            "eed",
            "every exit, the last one too, learns from the mean of all exits' logits and features",
            "Lee and Lee, arXiv 2104.00299",
            {"objective": ExitEnsembleDistillation()},
        ),
        Method(
            "elf",
            "a sample that an exit gets right with confidence no longer trains the exits behind it",
            "Duggal et al., arXiv 2006.11979",
            {"objective": EarlyLeaving()},
        ),
        Method(
            "survivors",
            "losses weighted by the chance that a sample is still there",
            "BoostNet; CalexNet, Electronics 2026",
            {"objective": Survivors()},
        ),
        Method(
            "wpn",
            "a small network weighs each sample at each exit, and learns what helps where samples leave",
            "Han et al. (L2W-DEN), ECCV 2022",
            {"objective": SampleWeights(), "loop": Bilevel(outer="halves")},
            rows={SampleWeights: "wpn", Bilevel: "wpn"},
        ),
        Method(
            "sdn-ramp",
            "the losses of shallow exits fade in, up to each exit's share of the operations",
            "Kaya et al., ICML 2019",
            {"objective": Ramp()},
        ),
        Method(
            "uncertainty",
            "each loss is divided by a variance that is learned with the net",
            "Kendall et al., CVPR 2018",
            {"balancer": Uncertainty()},
        ),
        Method(
            "imtl-l",
            "each loss times a learned scale, so that all weighted losses are of one size (IMTL-L)",
            "Liu et al., ICLR 2021",
            {"balancer": IMTLL()},
        ),
        Method(
            "dwa",
            "losses that fell slowly over the last two epochs weigh more",
            "Liu et al., CVPR 2019",
            {"balancer": DWA()},
        ),
        Method(
            "random",
            "a litmus test: weights of the losses drawn anew at every step",
            "Lin et al., TMLR 2022",
            {"balancer": RandomWeights()},
        ),
        Method(
            "dtp",
            "outputs that are still wrong often weigh more",
            "Guo et al., ECCV 2018",
            {"balancer": DTP()},
        ),
        Method(
            "famo",
            "all losses fall at one rate, by what the last step did to each of them",
            "Liu et al., NeurIPS 2023",
            {"balancer": FAMO()},
        ),
        Method(
            "gradnorm",
            "weights under which gradients are of one size, longer for losses that lag behind",
            "Chen et al., ICML 2018",
            {"balancer": GradNorm()},
        ),
        Method(
            "scalarize",
            "any scalarization of TorchJD that is a function of the losses alone, by its class name",
            "torchjd.org",
            {"balancer": Scalarize()},
        ),
        Method(
            "auto-lambda",
            "weights of the losses under which a step helps the primary outputs on other samples",
            "Liu et al., TMLR 2022",
            {"balancer": AutoLambda(), "loop": Bilevel()},
            rows={AutoLambda: "auto-lambda", Bilevel: "auto-lambda"},
        ),
        Method(
            "bdl-1",
            "block-dependent losses: each loss trains its own block and the two before",
            "github.com/savertm/Block-Dependent-Losses-for-Multi-Exit-Networks",
            {"combiner": Windows(window="overlap-3")},
        ),
        Method(
            "bdl-2",
            "block-dependent losses, and the last loss trains all blocks",
            "github.com/savertm/Block-Dependent-Losses-for-Multi-Exit-Networks",
            {"combiner": Windows(window="overlap-3-final")},
        ),
        Method(
            "pcgrad",
            "each loss's gradient loses what opposes another's",
            "Yu et al., NeurIPS 2020",
            {"combiner": PCGrad()},
        ),
        Method(
            "pcgrad-meta-gf",
            "PCGrad as Meta-GF's package has it: one gradient of all parameters, heads included",
            "Yu et al., NeurIPS 2020; Sun et al.'s package",
            {"combiner": PCGrad(shared="all")},
        ),
        Method(
            "cagrad",
            "near the mean gradient, the direction that helps the worst-off loss most",
            "Liu et al., NeurIPS 2021",
            {"combiner": CAGrad()},
        ),
        Method(
            "cagrad-meta-gf",
            "CAGrad as Meta-GF's package has it: all parameters, c = 0.5, and the mean instead of the sum",
            "Liu et al., NeurIPS 2021; Sun et al.'s package",
            {"combiner": CAGrad(c=0.5, shared="all", scaling="native")},
        ),
        Method(
            "nash-mtl",
            "the direction that the losses would agree on as bargainers",
            "Navon et al., ICML 2022",
            {"combiner": NashMTL()},
        ),
        Method(
            "mgda",
            "the shortest weighted mean of the gradients, which opposes no loss",
            "Sener and Koltun, NeurIPS 2018",
            {"combiner": MGDA()},
        ),
        Method(
            "mgda-ub",
            "mgda with weights from the gradients that meet at a fork, not from those of the parameters",
            "Sener and Koltun, NeurIPS 2018",
            {"combiner": MGDAUB()},
        ),
        Method(
            "imtl",
            "equally long steps along every loss's gradient (IMTL-G)",
            "Liu et al., ICLR 2021",
            {"combiner": IMTL()},
        ),
        Method(
            "graddrop",
            "at every weight one sign is drawn, and gradients of the other are dropped",
            "Chen et al., NeurIPS 2020",
            {"combiner": GradDrop()},
        ),
        Method(
            "aligned-mtl",
            "the gradients, made orthogonal and equally long",
            "Senushkin et al., CVPR 2023",
            {"combiner": AlignedMTL()},
        ),
        Method(
            "upgrad",
            "the sum of the gradients, each projected to where it opposes none",
            "Quinton and Rey, 2024",
            {"combiner": UPGrad()},
        ),
        Method(
            "gradvac",
            "two gradients whose cosine is below its moving average are turned towards it",
            "Wang et al., ICLR 2021",
            {"combiner": GradVac()},
        ),
        Method(
            "fairgrad",
            "the direction that is fair in how much each loss falls",
            "Ban and Ji, ICML 2024",
            {"combiner": FairGrad()},
        ),
        Method(
            "getmtl",
            "near the mean gradient, the unit direction whose worst progress is best",
            "Chai et al., ACL 2023",
            {"combiner": GetMTL()},
        ),
        Method(
            "gradient-remedy",
            "the gradient of auxiliary losses never opposes or drowns that of the primary one",
            "Hu et al., ICASSP 2023",
            {"combiner": GradientRemedy()},
        ),
        Method(
            "adatask",
            "each loss moves shared weights by an Adam step of its own, with moments of its own gradient",
            "Yang et al., AAAI 2023",
            {"combiner": AdaTask()},
        ),
        Method(
            "meta-gf",
            "one stage per exit from common weights, fused by meta-learned weights",
            "Sun et al., ECCV 2022",
            {"loop": MetaGF()},
        ),
        Method(
            "meta-gf-vgg",
            "Meta-GF as its authors' script for VGG-SDN on CIFAR-100",
            "Sun et al., ECCV 2022, the authors' code",
            {"loop": MetaGF(**SCRIPTS, ramp=True)},
        ),
        Method(
            "meta-gf-vgg-cifar10",
            "Meta-GF as its authors' script for VGG-SDN on CIFAR-10",
            "Sun et al., ECCV 2022, the authors' code",
            {"loop": MetaGF(**SCRIPTS, ramp=True, sharpness=1.0, fusion_lr=0.001)},
        ),
        Method(
            "meta-gf-resnet",
            "Meta-GF as its authors' script for ResNet-SDN, without an oversight",
            "Sun et al., ECCV 2022, the authors' code",
            {"loop": MetaGF(**SCRIPTS, ramp=True, granularity="tensor", ema=0.9, fusion_gamma=1.0)},
        ),
        Method(
            "meta-gf-msdnet",
            "Meta-GF as its authors' script for MSDNet, without an oversight",
            "Sun et al., ECCV 2022, the authors' code",
            {"loop": MetaGF(**SCRIPTS, granularity="tensor", ema=0.9, fusion_gamma=1.0)},
        ),
        Method(
            "meta-gf-nyu",
            "Meta-GF as its authors' code for NYUv2",
            "Sun et al., arXiv 2305.19844, the authors' code",
            {"loop": MetaGF(**SCRIPTS, auxiliary=0.5, granularity="connection", ema=0.9, fusion_gamma=1.0)},
        ),
        Method(
            "dr-avgf",
            "one stage per exit through the kernels it prefers, and the arithmetic mean",
            "Sun et al., arXiv 2305.19844, Fig 11",
            {"loop": DRMGF(learn="nothing")},
        ),
        Method(
            "dr-mgf",
            "one stage per exit through the kernels it prefers, fused by preference and meta-learned weights",
            "Sun et al., arXiv 2305.19844",
            {"loop": DRMGF()},
        ),
        Method(
            "dr-mgf-chained",
            "DR-MGF whose stages go on from one another, so that an epoch costs three of joint training",
            "ours, measured in results/hunt, after Sun et al., arXiv 2305.19844",
            {"loop": DRMGF(start="carried", optimizers="shared", statistics="carried", stage_fraction="2/K")},
        ),
        Method(
            "dr-mgf-published",
            "DR-MGF with the published learning rate of its fusion",
            "Sun et al., arXiv 2305.19844, the authors' code",
            {"loop": DRMGF(fusion_lr=0.1)},
        ),
        Method(
            "dr-mgf-paper",
            "DR-MGF to the letter of the paper: the fusion learns preferences, and all stages are routed",
            "Sun et al., arXiv 2305.19844",
            {"loop": DRMGF(learn="routes", nu_decay=1e-5, routed_share=1.0, fusion_lr=0.1)},
        ),
        Method(
            "dr-mgf-nyu",
            "DR-MGF as its authors' code for NYUv2, without two oversights",
            "Sun et al., arXiv 2305.19844, the authors' code",
            {
                "loop": DRMGF(
                    **SCRIPTS,
                    gate="mixed",
                    lateral="nyu",
                    init="norm",
                    auxiliary=0.5,
                    stage_weights="nyu",
                    penalty=0.0,
                    fusion_lr=0.1,
                )
            },
        ),
        Method(
            "aggregate",
            "any other aggregator of TorchJD that works on one batch, by its class name",
            "torchjd.org",
            {"combiner": Aggregate()},
        ),
    )
}


def method(name: str, options: Mapping[str, Any] | None = None, /, **settings: Any) -> Method:
    """The named method with the given options: ``method("dfs+cagrad", beta=0.7)``.

    Args:
        name: A key of :data:`METHODS`, or several joined by ``+`` that choose on different axes: ``dfs+kd``.
        options: Values for the method's options, e.g. ``{"beta": 0.9}`` for ``dfs``; qualified names do too,
            and are needed where several parts have an option of the name: ``{"dfs.scales": "all"}`` of
            ``dfs+ge``.
        **settings: The same by keyword, instead of the mapping.

    Raises:
        UserError: No such method or option, a value out of range, or methods that do not combine.
    """
    if options is not None and settings:
        raise UserError("give method() its options in a mapping or by keyword, not both")
    if not isinstance(name, str) or not isinstance(options, Mapping | None):
        raise UserError(
            f"method() takes a name and a mapping of options, got {shown(name)} and {shown(options)}"
        )
    keys = [key.strip() for key in name.split("+")]
    for key in keys:
        if not key:
            raise UserError(f"method {shown(name)} has a '+' without a name on both sides; write e.g. dfs+kd")
        if key not in METHODS:
            raise UserError(f"no method {shown(key)}{guess(key, METHODS)}; there are: {', '.join(METHODS)}")
    # in the order of the table, so that dfs+kd and kd+dfs are one method
    methods = sorted((METHODS[key] for key in keys), key=list(METHODS.values()).index)
    whole = methods[0] if len(methods) == 1 else compose(methods)
    return whole.with_options(settings if options is None else options)
