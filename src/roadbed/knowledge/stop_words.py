"""Function words of the European languages that the analyzer stems, by ISO 639-1 code.

They serve twice: the analyzer keeps them out of a document's length and out of ordinary queries, and the share of them
in a text tells its language. Each list is the closed classes (articles, pronouns, prepositions, conjunctions and
auxiliaries), casefolded. The invariant: a changed list is a new ``STOP_WORDS_VERSION``, since it changes every score.
"""

from __future__ import annotations

STOP_WORDS_VERSION = "stop1"

_LISTS = {
    "en": """
a about above after again against all also am an and any are aren't as at be because been before being below
between both but by can can't cannot could couldn't did didn't do does doesn't doing don't down during each
either few for from further had hadn't has hasn't have haven't having he he's her here hers herself him himself
his how however i i'm i've if in into is isn't it it's its itself just let's may me might more most must my
myself neither no nor not of off on once only or other ought our ours ourselves out over own same shall she
should shouldn't so some such than that that's the their theirs them themselves then there there's therefore
these they they're this those though through thus to too under until up upon us very was wasn't we we're were
weren't what what's when where whether which while who whom whose why will with within without won't would
wouldn't yet you you're your yours yourself yourselves
""",
    "de": """
aber alle allem allen aller alles als also am an andere anderen auch auf aus bei beim bin bis bist da damit dann
das dass dein deine dem den denn der deren des dessen dich die dies diese diesem diesen dieser dieses dir doch
dort du durch ein eine einem einen einer eines er es etwas euch euer für gegen gewesen hab habe haben hat hatte
hatten hier hin hinter ich ihm ihn ihnen ihr ihre ihrem ihren ihrer im in indem ins ist ja jede jedem jeden
jeder jedes jene jetzt kann kein keine keinem keinen keiner können könnte mal man manche mehr mein meine mich
mir mit muss musste nach nicht nichts noch nun nur ob oder ohne sehr sein seine seinem seinen seiner seit sich
sie sind so solche soll sollte sondern sonst über um und uns unser unsere unter viel vom von vor während war
waren warum was weg weil weiter welche welchem welchen welcher wenn wer werde werden wie wieder will wir wird
wirst wo wollen wollte würde würden zu zum zur zwar zwischen
""",
    "fr": """
a afin ai aient ainsi alors après au aucun aucune aura aurait aussi autre autres aux avaient avait avant avec
avez avoir avons c ce ceci cela celle celles celui ces cet cette ceux chaque chez ci comme comment d dans de
depuis des donc dont du elle elles en encore entre es est et étaient était étant été être eu eux fait fut ici il
ils j je jusqu la là le les leur leurs lors lorsque lui m ma mais me même mêmes mes moi moins mon n ne ni nos
notre nous on ont ou où par parce pas pendant peu peut plus pour pourquoi puis qu quand que quel quelle quelles
quels qui quoi s sa sans se sera serait ses si sien soit son sont sous sur t ta te tes toi ton tous tout toute
toutes très tu un une vers voici voilà vos votre vous y
""",
    "es": """
a al algo algún alguna algunas algunos ante antes aquel aquella aquello así aun aunque bajo bien cada como cómo
con contra cual cuál cuales cuando cuándo cuyo de del desde donde dónde dos durante e el él ella ellas ellos en
entre era eran eres es esa esas ese eso esos esta está estaba estado están estar estas este esto estos fue
fueron ha había habían han hasta hay la las le les lo los más me mediante mi mientras mis mucho muy nada ni no
nos nosotros nuestra nuestro o os otra otras otro otros para pero poco por porque pues que qué quien quién
quienes se sea según ser será si sí sido sin sino sobre solo son su sus también tan tanto te tiene tienen todo
todos toda todas tras tu tus un una unas uno unos usted ustedes y ya yo
""",
    "it": """
a abbia ad agli ai al alla alle allo altra altre altri altro anche ancora aveva avevano avere c che chi ci cioè
come con cosa così cui da dagli dai dal dalla dalle dallo degli dei del dell della delle dello dentro di dopo
dove e è ed era erano essere fa fino fra fu gli ha hai hanno ho i il in io l la le lei li lo loro lui ma me
mentre mi mia mie miei mio molto ne negli nei nel nella nelle nello no noi non nostra nostro o ogni oppure per
perché però più poi prima può quale quali quando quanto quella quelle quelli quello questa queste questi questo
qui se sei senza si sia siamo solo sono sopra sotto sta stata stati stato su sua sue sugli sui sul sulla sulle
sullo suo suoi tra tu tutta tutte tutti tutto un una uno vi voi
""",
    "pt": """
a à ao aos aquela aquele aquilo às as até cada com como contra da das de dela dele deles depois desde do dos
durante e é ela elas ele eles em entre era eram essa essas esse esses esta está estão estas estava este estes eu
foi foram há isso isto já lhe lhes mais mas me mesmo meu minha muito muitos na não nas nem no nos nós nossa
nosso num numa o onde os ou para pela pelas pelo pelos pode por porque qual quais quando que quem são se seja
sem sendo ser será seu seus só sob sobre sua suas também tão te tem têm tinha toda todas todo todos tu tua um
uma umas uns você vocês
""",
    "nl": """
aan al alle als altijd andere ben bij binnen boven bent daar daarom dan dat de deze die dit doch door dus een
elk en er ge geen geweest haar had hadden heb hebben heeft hem het hier hij hoe hun ik in indien is ja je jij
jullie kan kon kunnen maar me meer men met mij mijn moet na naar niet niets nog nu of om omdat ons onze ook
onder op over reeds te tegen tijdens toch toen tot tussen u uit uw van veel vanaf voor waar waarom wanneer want
waren was wat we wel welke werd werden wezen wie wij wil worden wordt zal ze zelf zich zij zijn zo zonder zou
zouden
""",
    "sv": """
alla allt att av bara blev bli blir både de dem den denna deras dess dessa det detta dig din dina ditt du där då
efter ej eller en ett från för före genom ha hade han hans har hela henne hennes hon honom hos hur här i icke in
inom inte ja jag kan kunde man med mellan men mer mig min mina mitt mot mycket måste ni nu någon något några när
och också om oss på samma sedan ses sig sin sina sitt ska skall skulle som så sådan till under upp ur ut utan
vad vara varför varit var vara vem vi vid vilka vilken vilket vår våra är även över
""",
    "da": """
ad af alle alt anden at blev blive bliver både da de dem den denne der deres det dette dig din disse dog du
efter eller en end er et for fordi fra før gennem ham han hans har havde have hende hendes her hos hun hvad hvem
hver hvilken hvis hvor hvordan hvorfor i ikke ind ingen jeg jer jo kan kom kun kunne man mange med meget mellem
men mig min mod må ned nej noget nogle nogen nu når og også om op os over på samt selv sig sin skal skulle som
sådan thi til ud uden under var ved vi vil ville vor være været
""",
    "no": """
alle andre at av bare ble bli blir bort både da de deg dem den denne der dere deres det dette din disse du eller
en enn er et etter for fordi fra før gjennom ha hadde han hans har henne hennes her hos hun hva hvem hver
hvilken hvis hvor hvordan hvorfor i ikke ingen inn jeg kan kom kun kunne man mange med meg meget mellom men mer
min mot må ned nei noe noen nå når og også om opp oss over på samt seg selv sin skal skulle slik som så til ut
uten under var ved vi vil ville vår være vært
""",
    "fi": """
ei eivät eli ennen ettei että en et hän häneen hänen he heidän heille ilman itse ja jo joka jokin jolla jonka
jos jossa jota jotka jotta joten kanssa kautta ken kuin kuinka kuitenkin kun kuten läpi me meidän mihin mikä
mikäli missä mitä mukaan muta mutta myös myöten niiden niin niitä ne no noin nämä näiden nyt ole olen olet oli
olisi olivat olla olleet ollut on ovat paitsi sama se sekä sen siellä siihen siinä siis sillä sitä tai tämä
tämän tässä tätä te teidän tuo vaan vai vaikka vain voi voidaan yli
""",
    "pl": """
a aby albo ale ani bardzo bez bo by być był była było były będzie będą ci co coś czy dla do gdy gdyby gdzie go i
ich ile im inne innych ja jak jako je jednak jego jej jest jestem jeszcze jeśli jeżeli już każdy kiedy kto która
które którego której który których którym lub ma mają mi mnie może można my na nad nam nas nasz nawet nich nie
niego nim niż no o od oni oraz on ona po pod podczas ponieważ poza przed przez przy są się ta tak także tam te
tego tej ten to tu ty tych tylko tym u w we wszystko wy z za ze że żeby
""",
    "ru": """
а без более был была были было быть в вам вас ведь весь во вот все всё всего всех вы где да даже для до его ее
её если есть еще ещё же за здесь и из или им их к как какой когда кто ли либо мне может можно мы на над надо нас
наш не него нее неё нет ни них но ну о об однако он она они оно от очень по под после потому при про с сам свой
себя со так также такой там те тем то того тоже той только том ты у уже хотя чего чей чем что чтобы эта эти это
этого этой этом этот я
""",
    "tr": """
acaba ama ancak artık aslında az bana bazı belki ben beni benim bile bir biri birkaç biz bize bu buna bunda
bundan bunu bunun burada böyle da daha de defa değil diye dolayı en gibi göre ha hangi hem hep hepsi her hiç
için ile ise işte kadar karşı kendi ki kim mi mı mu mü nasıl ne neden nerede niçin o olan olarak oldu olduğu
olması olur on ona ondan onlar onu onun orada oysa sen siz sonra şey şimdi şu tüm var ve veya ya yani yok zaten
çok çünkü önce üzere
""",
}

STOP_WORDS: dict[str, frozenset[str]] = {code: frozenset(words.split()) for code, words in _LISTS.items()}
